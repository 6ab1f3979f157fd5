package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"

	"github.com/skytools/skyd/internal/pgserver"
)

// defaultImage is used when SKYD_TEST_IMAGE names no other.
const defaultImage = "postgres:18"

// lifetime bounds a container whose test was killed: the container cannot
// notice, so it ends by itself.
const lifetime = 30 * time.Minute

// container is a server in Docker.
type container struct {
	pool *dockertest.Pool
	res  *dockertest.Resource
	port int
}

// newDocker starts a server from the image SKYD_TEST_IMAGE.
func newDocker(ctx context.Context, settings map[string]string, autoRemove bool) (*container, error) {
	image := os.Getenv("SKYD_TEST_IMAGE")
	if image == "" {
		image = defaultImage
	}
	return runImage(ctx, image, settings, nil, autoRemove)
}

// runImage starts a server from an image whose entry point behaves as that of
// the public postgres image. Docker fetches the image if it is not there. The
// keys of tmpfs are directories of file systems in memory, with their options.
func runImage(ctx context.Context, image string, settings, tmpfs map[string]string, autoRemove bool) (*container, error) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		return nil, fmt.Errorf("%w (docker: %w)", errNoServer, err)
	}
	if err := pool.Client.Ping(); err != nil {
		return nil, fmt.Errorf("%w (docker: %w)", errNoServer, err)
	}
	port, err := pgserver.FreePort()
	if err != nil {
		return nil, err
	}
	repository, tag, ok := cutTag(image)
	if !ok {
		tag = "latest"
	}
	cmd := []string{"postgres"}
	for _, kv := range []string{"fsync=off", "full_page_writes=off", "max_connections=200", "jit=off", "autovacuum_naptime=10s"} {
		cmd = append(cmd, "-c", kv)
	}
	for key, value := range settings {
		cmd = append(cmd, "-c", key+"="+value)
	}
	res, err := pool.RunWithOptions(&dockertest.RunOptions{
		Repository:   repository,
		Tag:          tag,
		Env:          []string{"POSTGRES_HOST_AUTH_METHOD=trust"},
		Entrypoint:   []string{"sh", "-c", fmt.Sprintf(`(sleep %d; kill -INT 1) & exec docker-entrypoint.sh "$@"`, int(lifetime.Seconds())), "sh"},
		Cmd:          cmd,
		ExposedPorts: []string{"5432/tcp"},
		PortBindings: map[docker.Port][]docker.PortBinding{"5432/tcp": {{HostIP: "127.0.0.1", HostPort: fmt.Sprint(port)}}},
		Labels:       map[string]string{"skyd.test": "1"},
	}, func(hc *docker.HostConfig) { hc.AutoRemove, hc.Tmpfs = autoRemove, tmpfs })
	if err != nil {
		if _, missing := pool.Client.InspectImage(image); missing != nil {
			return nil, fmt.Errorf("%w (no image %s: %w)", errNoServer, image, err)
		}
		return nil, fmt.Errorf("run image %s: %w", image, err)
	}
	c := &container{pool: pool, res: res, port: port}
	if err := c.ready(ctx); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// cutTag splits an image's name; a colon before a slash belongs to a port.
func cutTag(image string) (repository, tag string, ok bool) {
	i := strings.LastIndexByte(image, ':')
	if i < 0 || strings.Contains(image[i:], "/") {
		return image, "", false
	}
	return image[:i], image[i+1:], true
}

// ready waits until the server answers.
func (c *container) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := pgx.Connect(ctx, c.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if state, ierr := c.pool.Client.InspectContainer(c.res.Container.ID); ierr == nil && !state.State.Running {
			return fmt.Errorf("PostgreSQL in container %s ended with code %d:\n%s", state.Name, state.State.ExitCode, c.logTail(ctx))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for PostgreSQL in container %s: %w\n%s", c.res.Container.Name, err, c.logTail(context.WithoutCancel(ctx)))
		case <-again.C:
		}
	}
}

// logTail is the end of what the container printed.
func (c *container) logTail(ctx context.Context) string {
	var text bytes.Buffer
	err := c.pool.Client.Logs(docker.LogsOptions{
		Context: ctx, Container: c.res.Container.ID, Tail: "20",
		Stdout: true, Stderr: true, OutputStream: &text, ErrorStream: &text,
	})
	if err != nil {
		return err.Error()
	}
	return text.String()
}

func (c *container) Start(ctx context.Context) error {
	if err := c.pool.Client.StartContainerWithContext(c.res.Container.ID, nil, ctx); err != nil {
		return err
	}
	return c.ready(ctx)
}

// Stop asks for a fast shutdown, which not every image does by itself when it
// is stopped.
func (c *container) Stop(ctx context.Context) error {
	id := c.res.Container.ID
	if err := c.pool.Client.KillContainer(docker.KillContainerOptions{ID: id, Signal: docker.SIGINT, Context: ctx}); err != nil {
		return err
	}
	_, err := c.pool.Client.WaitContainerWithContext(id, ctx)
	return err
}

func (c *container) Kill() error {
	if err := c.pool.Client.KillContainer(docker.KillContainerOptions{ID: c.res.Container.ID}); err != nil {
		return err
	}
	_, err := c.pool.Client.WaitContainer(c.res.Container.ID)
	return err
}

// Freeze tries a few times: a busy kernel may not get all processes to stand still at the first try.
func (c *container) Freeze() error {
	var err error
	for range 20 {
		if err = c.pool.Client.PauseContainer(c.res.Container.ID); err == nil {
			break
		}
	}
	return err
}
func (c *container) Thaw() error { return c.pool.Client.UnpauseContainer(c.res.Container.ID) }

func (c *container) DSN(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", c.port, database)
}

func (c *container) Remove() error { return c.pool.Purge(c.res) }

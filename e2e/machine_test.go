package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"

	"github.com/skytools/skyd/internal/pgtest"
)

// village is a network of machines, each a container with an address of its own that it keeps, on which a server and a
// daemon run.
type village struct {
	t        *testing.T
	pool     *dockertest.Pool
	net      *dockertest.Network
	image    string
	share    string // a directory that all machines see as /share
	machines []*machine
}

// machine is one container. Its first process does nothing, so that everything on it can be killed by itself.
type machine struct {
	v       *village
	name    string
	address string
	command []string // of the daemon
	res     *dockertest.Resource
}

// machineLife ends a machine whose test was killed.
const machineLife = 60 * time.Minute

func newVillage(t *testing.T) *village {
	t.Helper()
	image := imageFor(t, majors[0])
	pool, err := dockertest.NewPool("")
	if err == nil {
		err = pool.Client.Ping()
	}
	if err != nil {
		pgtest.Missing(t, err.Error())
	}
	share, err := os.MkdirTemp("", "skyd-village-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(share) })
	v := &village{t: t, pool: pool, image: image, share: share}
	if err := os.Chmod(share, 0o777); err != nil { // the server's user in the container writes there
		t.Fatal(err)
	}
	v.net = v.newNet()
	t.Cleanup(func() { _ = pool.RemoveNetwork(v.net) })
	return v
}

// newNet makes a network; its subnet, one that nobody has, is by choice, because only then addresses can be chosen.
func (v *village) newNet() *dockertest.Network {
	v.t.Helper()
	var err error
	for i := range 200 {
		subnet := fmt.Sprintf("10.%d.%d.0/24", 210+i%20, (os.Getpid()+i*7)%250)
		var net *dockertest.Network
		net, err = v.pool.CreateNetwork(fmt.Sprintf("skyd-%d-%d", os.Getpid(), time.Now().UnixNano()), func(o *docker.CreateNetworkOptions) {
			o.IPAM = &docker.IPAMOptions{Config: []docker.IPAMConfig{{Subnet: subnet}}}
			o.Labels = map[string]string{"skyd.test": "1"}
		})
		if err == nil {
			net.Network.IPAM.Config = []docker.IPAMConfig{{Subnet: subnet}}
			return net
		}
	}
	v.t.Fatalf("network: %v", err)
	return nil
}

// put writes a file that all machines see in /share.
func (v *village) put(name string, body []byte, mode os.FileMode) {
	v.t.Helper()
	if err := os.WriteFile(filepath.Join(v.share, name), body, mode); err != nil {
		v.t.Fatal(err)
	}
}

// add starts a machine with a server on it.
func (v *village) add(name string, command ...string) *machine {
	v.t.Helper()
	subnet := v.net.Network.IPAM.Config[0].Subnet
	m := &machine{v: v, name: name, command: command, address: fmt.Sprintf("%s.%d", subnet[:strings.LastIndexByte(subnet, '.')], 10+len(v.machines))}
	repository, tag, _ := strings.Cut(v.image, ":")
	var err error
	m.res, err = v.pool.RunWithOptions(&dockertest.RunOptions{
		Repository: repository, Tag: tag, Hostname: name, Mounts: []string{v.share + ":/share"},
		Entrypoint: []string{"sleep", fmt.Sprint(int(machineLife.Seconds()))},
		Labels:     map[string]string{"skyd.test": "1"},
	}, func(hc *docker.HostConfig) { hc.NetworkMode, hc.Init, hc.PublishAllPorts = "none", true, false })
	if err != nil {
		v.t.Fatalf("machine %s: %v", name, err)
	}
	v.t.Cleanup(func() {
		_, _ = m.run("rm -rf /share/base", false) // it belongs to the server's user
		_ = v.pool.Purge(m.res)
	})
	v.must(v.pool.Client.DisconnectNetwork("none", docker.NetworkConnectionOptions{Container: m.id()}))
	m.join()
	m.sh(`[ -d /share/base ] || { initdb -D /share/base -U postgres -A trust -E UTF8 --locale=C --no-sync --no-instructions >/dev/null &&
		echo 'host all all all trust' >>/share/base/pg_hba.conf; } && cp -a /share/base/. $PGDATA`)
	v.machines = append(v.machines, m)
	return m
}

func (v *village) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func (m *machine) id() string { return m.res.Container.ID }

// dsn is how everybody reaches the server.
func (m *machine) dsn() string {
	return "host=" + m.address + " dbname=postgres user=postgres connect_timeout=2"
}

// run runs a shell command on the machine; background: without waiting for it.
func (m *machine) run(command string, background bool) (string, error) {
	client := m.v.pool.Client
	exec, err := client.CreateExec(docker.CreateExecOptions{
		Container: m.id(), AttachStdout: !background, AttachStderr: !background,
		Cmd: []string{"sh", "-c", "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; " + command},
	})
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := client.StartExec(exec.ID, docker.StartExecOptions{Detach: background, OutputStream: &out, ErrorStream: &out}); err != nil || background {
		return "", err
	}
	state, err := client.InspectExec(exec.ID)
	if err == nil && state.ExitCode != 0 {
		err = fmt.Errorf("exit code %d: %s", state.ExitCode, &out)
	}
	return out.String(), err
}

// sh is run that must work.
func (m *machine) sh(command string) string {
	m.v.t.Helper()
	out, err := m.run(command, false)
	if err != nil {
		m.v.t.Fatalf("machine %s: %s: %v", m.name, command, err)
	}
	return out
}

// startServer starts the server, which may have to wait for what a killed one has left.
func (m *machine) startServer() {
	m.v.t.Helper()
	m.awaken(`postgres -D $PGDATA -c listen_addresses='*' -c unix_socket_directories=/tmp -c fsync=off -c jit=off -c timezone=UTC \
		-c max_connections=60 -c shared_buffers=32MB`, "server", func() bool {
		conn, err := pgx.Connect(m.v.t.Context(), m.dsn())
		if err == nil {
			_ = conn.Close(m.v.t.Context())
		}
		return err == nil
	})
}

// awaken starts a program until it is well.
func (m *machine) awaken(command, name string, well func() bool) {
	m.v.t.Helper()
	var last time.Time
	pgtest.Eventually(m.v.t, time.Minute, name+" of "+m.name+" answers", func() bool {
		if well() {
			return true
		}
		if _, err := m.run("kill -0 $(head -1 /tmp/"+name+".pid)", false); err != nil && time.Since(last) > 500*time.Millisecond {
			last = time.Now()
			_, err := m.run(fmt.Sprintf(`echo $$ >/tmp/%[1]s.pid; exec %[2]s >>/share/%[3]s.%[1]s.log 2>&1`, name, command, m.name), true)
			m.v.must(err)
		}
		return false
	})
}

// startDaemon starts the daemon and does not wait for it.
func (m *machine) startDaemon() {
	m.v.t.Helper()
	_, err := m.run(fmt.Sprintf(`kill -0 $(cat /tmp/daemon.pid) 2>/dev/null && exit; echo $$ >/tmp/daemon.pid
		cd /tmp; RUNTIME_DIRECTORY=/tmp exec %s >>/share/%s.daemon.log 2>&1`, strings.Join(m.command, " "), m.name), true)
	m.v.must(err)
}

// kill ends the server or the daemon by signal 9. That it has ended before is no error.
func (m *machine) kill(name string) {
	_, _ = m.run("kill -9 $(head -1 /tmp/"+name+".pid); rm /tmp/"+name+".pid", false)
}

// crash ends everything on the machine at once.
func (m *machine) crash() {
	m.v.t.Helper()
	m.v.must(m.v.pool.Client.KillContainer(docker.KillContainerOptions{ID: m.id()}))
	_, err := m.v.pool.Client.WaitContainer(m.id())
	m.v.must(err)
}

// boot starts the machine after a crash, without server and daemon.
func (m *machine) boot() {
	m.v.t.Helper()
	m.v.must(m.v.pool.Client.StartContainer(m.id(), nil))
	m.sh("rm -f /tmp/*.pid")
}

func (m *machine) freeze() error { return m.v.pool.Client.PauseContainer(m.id()) }
func (m *machine) thaw() error   { return m.v.pool.Client.UnpauseContainer(m.id()) }

// cut takes the machine off the network, join puts it on with its address.
func (m *machine) cut() {
	m.v.t.Helper()
	m.v.must(m.v.pool.Client.DisconnectNetwork(m.v.net.Network.ID, docker.NetworkConnectionOptions{Container: m.id(), Force: true}))
}

func (m *machine) join() {
	m.v.t.Helper()
	m.v.must(m.v.pool.Client.ConnectNetwork(m.v.net.Network.ID, docker.NetworkConnectionOptions{
		Container:      m.id(),
		EndpointConfig: &docker.EndpointConfig{IPAMConfig: &docker.EndpointIPAMConfig{IPv4Address: m.address}},
	}))
}

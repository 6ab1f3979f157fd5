package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/skytools/skyd/internal/pgserver"
)

// ErrNoServer means that PostgreSQL's server programs are missing on this machine, or not usable.
var ErrNoServer = errors.New("no PostgreSQL to run")

// server is the demo's own PostgreSQL.
type server struct {
	*pgserver.Cluster
	version string
}

// Kept tells where the server of a finished run is and how to use it again.
type Kept struct {
	Dir     string `json:"dir"`
	Start   string `json:"start"`   // shell command
	Connect string `json:"connect"` // shell command, once started
	Stop    string `json:"stop"`    // shell command
	Remove  string `json:"remove"`  // shell command, when stopped
}

var versionNumber = regexp.MustCompile(`\d[\w.]*`)

// startServer makes and starts the server. With an error there may be a server to end all the same.
func startServer(ctx context.Context, o Options) (*server, error) {
	binaries, err := pgserver.Find()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
	}
	options := pgserver.Options{Fsync: true, NoCache: true, Settings: map[string]string{
		"track_commit_timestamp": "on", // for the latency from commit to commit
	}}
	if o.Keep {
		// Directories that New names are deleted by the next New once their owner has gone.
		if options.Dir, err = os.MkdirTemp("", "skyd-demo-"); err != nil {
			return nil, err
		}
	}
	version := "PostgreSQL " + versionNumber.FindString(binaries.Version)
	o.Say(version + " in " + binaries.Dir + ": making a throw-away server")
	cluster, err := pgserver.New(ctx, binaries, options)
	if err != nil {
		if o.Keep {
			err = errors.Join(err, os.RemoveAll(options.Dir))
		}
		return nil, err
	}
	s := &server{Cluster: cluster, version: version}
	if err := s.Start(ctx); err != nil {
		return s, err
	}
	o.Say(fmt.Sprintf("running in %s on port %d, fsync on", s.Dir, s.Port))
	return s, nil
}

func (s *server) dsn() string { return s.DSN("postgres") }

// end stops the server and deletes it, unless it is to be kept.
func (s *server) end(keep bool) (*Kept, error) {
	if !keep {
		return nil, s.Remove()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		return nil, err
	}
	// The log of the demo belongs to its own user, which is another one for root.
	ctl := fmt.Sprintf("%s/pg_ctl -D %s", s.Binaries.Dir, s.DataDir())
	if account := s.Account(); account != "" {
		ctl = "runuser -u " + account + " -- " + ctl
	}
	return &Kept{
		Dir: s.Dir, Connect: fmt.Sprintf("%s/psql %s", s.Binaries.Dir, s.DSN("postgres")),
		Start: fmt.Sprintf(`%s -l %s/server.log -o "-p %d -k %s" start`, ctl, s.DataDir(), s.Port, s.Dir),
		Stop:  ctl + " stop", Remove: "rm -r " + s.Dir,
	}, nil
}

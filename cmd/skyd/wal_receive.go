package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/walarchive"
)

// newWALReceiveCommand builds skyd wal receive.
func newWALReceiveCommand(a *app) *cobra.Command {
	var (
		f     walFlags
		o     walarchive.ReceiverOptions
		until string
		none  bool
		dsn   string
	)
	cmd := &cobra.Command{
		Use:   "receive",
		Short: "bring WAL into the archive while it is written",
		Long: `Receives the WAL of the server record by record, keeps it durably in state_dir, and brings it into the repository: closed
segments whole, the open one every --partial-interval, so that with the server at most that much is lost; nothing when the
server waits for it (skyd wal synch-standby). Runs until it is interrupted, or until --until is in the repository; it survives
restarts of the server and follows a failover to the new timeline. With --output json every change of position is a line.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if none {
				o.Slot = ""
			}
			if until != "" {
				var err error
				if o.Until, err = walarchive.ParseLSN(until); err != nil {
					return usageError("--until: %w", err)
				}
			}
			if o.Feedback != walarchive.FeedbackLocal && o.Feedback != walarchive.FeedbackRepo {
				return usageError("--feedback must be local or repo (got %q)", o.Feedback)
			}
			return a.onRepo(cmd, f, func(ctx context.Context, repo *walarchive.Repo, w walarchive.Config, all configs.Config) (err error) {
				if o.DSN = dsn; dsn == "" {
					if o.DSN, err = sourceDSN(w, all); err != nil {
						return err
					}
				}
				o.StateDir = w.StateDir
				return a.receive(ctx, repo, o)
			})
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&dsn, "server", "", "`DSN` of the server to receive from (default: the configured database)")
	fl.StringVar(&o.Slot, "slot", "skyd_wal", "replication slot; made if it is missing")
	fl.BoolVar(&none, "no-slot", false, "without a slot: the server may remove WAL that has not been received")
	fl.StringVar(&o.Application, "application-name", "skyd_wal", "the `NAME` that synchronous_standby_names refers to")
	fl.DurationVar(&o.PartialInterval, "partial-interval", time.Second, "how often the open segment is stored")
	fl.StringVar(&o.Feedback, "feedback", walarchive.FeedbackLocal, "what counts as flushed: local (durable in state_dir) or repo")
	fl.StringVar(&until, "until", "", "end when everything before this `LSN` is in the repository")
	return cmd
}

// receive receives until it is over, and comes back after failures.
func (a *app) receive(ctx context.Context, repo *walarchive.Repo, o walarchive.ReceiverOptions) error {
	o.Owner, o.Note = owner("receive"), func(text string) { a.note("%s", text) }
	lines := make(chan walarchive.ReceiverStatus, 1)
	if a.output != "table" {
		o.Changed = func(st walarchive.ReceiverStatus) {
			select { // the newest one replaces one that nobody has written yet
			case <-lines:
			default:
			}
			select {
			case lines <- st:
			default:
			}
		}
	}
	rc := walarchive.NewReceiver(repo, o)
	ended := make(chan error, 1)
	go func() { ended <- a.keepReceiving(ctx, rc) }()
	var last walarchive.LSN
	for {
		select {
		case st := <-lines:
			if st.Flushed != last {
				last = st.Flushed
				if err := a.show(st, nil); err != nil {
					return err
				}
			}
		case err := <-ended:
			if err != nil || a.output != "table" {
				return err
			}
			st := rc.Status()
			return a.show(st, func(w io.Writer) error {
				fmt.Fprintf(w, "received up to %s, stored up to %s on timeline %d\n", st.Flushed, st.Stored, st.Timeline)
				return nil
			})
		}
	}
}

// keepReceiving runs the receiver again after failures that may pass.
func (a *app) keepReceiving(ctx context.Context, rc *walarchive.Receiver) error {
	for try := 0; ; try++ {
		began := time.Now()
		err := rc.Run(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, walarchive.ErrForeignCluster) || errors.Is(err, walarchive.ErrForeignBranch) ||
			errors.Is(err, walarchive.ErrLeased) {
			return err
		}
		if time.Since(began) > time.Minute {
			try = 0
		}
		wait := min(10*time.Second, 100*time.Millisecond<<min(try, 10))
		a.note("%v; again in %s", err, wait)
		t := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

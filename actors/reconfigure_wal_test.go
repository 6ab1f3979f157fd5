package actors

import (
	"context"
	"net"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skytools/skyd/walarchive"
)

// watched is an archive whose parts are counted as they start.
type watched struct {
	fakeArchive
	opened, received, kept atomic.Int64
}

// params are parameters of an archive that receives and keeps backups.
func (a *watched) params(t *testing.T, source string) ArchiveParams {
	return ArchiveParams{
		Source: source, PGData: t.TempDir(), Workers: 1, LookPeriod: 10 * time.Second, PushTimeout: time.Minute,
		Key: "repo", ReceiveKey: "receive", BackupKey: "backup",
		Open: func(context.Context) (ArchiveHandle, error) { a.opened.Add(1); return a, nil },
		Listen: func(ctx context.Context) (net.Listener, error) { // sockets do not go with the fake clock
			<-ctx.Done()
			return nil, ctx.Err()
		},
		Receive: func(ctx context.Context, _ ArchiveHandle, tell func(walarchive.ReceiverStatus)) error {
			a.received.Add(1)
			tell(walarchive.ReceiverStatus{Connected: true, Timeline: 1})
			<-ctx.Done()
			return ctx.Err()
		},
		KeepBackups: func(context.Context, ArchiveHandle) (BackupKept, error) {
			a.kept.Add(1)
			return BackupKept{Last: time.Unix(1, 0)}, nil
		},
	}
}

func TestReconfigure_ArchivesByDifference(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keep, change, drop, add := &watched{}, &watched{}, &watched{}, &watched{}
		kp, cp, dp := keep.params(t, "keep"), change.params(t, "change"), drop.params(t, "drop")
		tr := playDaemon(t, DaemonParams{Archives: []ArchiveParams{kp, cp, dp}})
		time.Sleep(5 * time.Second)
		before := tr.since()
		if n := len(tr.snapshot().Archives); n != 3 {
			t.Fatalf("%d archives in the status, want 3", n)
		}
		time.Sleep(time.Minute)

		cp.Key = "another repo"
		ap := add.params(t, "add")
		got := tr.reconfigure(Reconfigure{Archives: []ArchiveParams{kp, cp, ap}})
		want := Reconfigured{Added: []string{"wal/add"}, Removed: []string{"wal/drop"}, Replaced: []string{"wal/change"}, Untouched: []string{"wal/keep"}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
		for path, since := range tr.since() {
			if len(path) > 8 && path[:8] == "wal/keep" && !since.Equal(before[path]) {
				t.Errorf("%s was touched", path)
			}
		}
		if keep.opened.Load() != 1 || change.opened.Load() != 2 || add.opened.Load() != 1 {
			t.Errorf("opened %d, %d, %d times", keep.opened.Load(), change.opened.Load(), add.opened.Load())
		}
		for _, a := range tr.snapshot().Archives {
			if a.Source == "drop" {
				t.Error("an archive that is gone is in the status")
			}
		}
		time.Sleep(5 * time.Second)
		before = tr.since()
		time.Sleep(time.Minute)
		if got = tr.reconfigure(Reconfigure{Archives: []ArchiveParams{kp, cp, ap}}); len(got.Untouched) != 3 || tr.restarted(before) != "" {
			t.Errorf("the same again: %+v, restarted %s", got, tr.restarted(before))
		}
	})
}

func TestReconfigure_PartsOfAnArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &watched{}
		p := a.params(t, "main")
		tr := playDaemon(t, DaemonParams{Archives: []ArchiveParams{p}})
		time.Sleep(5 * time.Second)
		before := tr.since()
		time.Sleep(2 * time.Minute)
		backups := a.kept.Load()

		p.ReceiveKey = "another slot"
		if got := tr.reconfigure(Reconfigure{Archives: []ArchiveParams{p}}); !reflect.DeepEqual(got.Adjusted, []string{"wal/main"}) {
			t.Errorf("got %+v", got)
		}
		time.Sleep(2 * time.Second)
		if got := tr.restarted(before); got != "wal/main/receiver" || a.received.Load() != 2 || a.kept.Load() != backups {
			t.Errorf("restarted %q; received %d times, want the receiver only", got, a.received.Load())
		}

		p.Receive, p.ReceiveKey, p.BackupKey = nil, "", "every hour"
		tr.reconfigure(Reconfigure{Archives: []ArchiveParams{p}})
		if s := tr.snapshot().Archives[0]; s.Receiver != nil || a.kept.Load() != backups+1 || a.opened.Load() != 1 {
			t.Errorf("receiver %+v, %d looks at the backups, opened %d times", s.Receiver, a.kept.Load(), a.opened.Load())
		}
		if _, ok := tr.since()["wal/main/receiver"]; ok {
			t.Error("the receiver is still there")
		}
	})
}

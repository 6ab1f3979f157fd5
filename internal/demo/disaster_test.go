package demo

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/runtime"
	"github.com/skytools/skyd/walarchive"
)

// fetchMain is the restore_command of the restored server.
func fetchMain(url, name, dest string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	st, err := runtime.OpenStorage(ctx, url)
	dir, derr := os.Getwd()
	if errors.Join(err, derr) != nil {
		return walarchive.FetchInternal
	}
	c := walarchive.DefaultConfig()
	c.Source, c.Fetch.Patience = demoSource, time.Second
	a, err := walarchive.OpenArchive(ctx, st, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return walarchive.FetchInternal
	}
	exit, _ := a.Fetch(ctx, walarchive.FetchRequest{Name: name, Dest: filepath.Join(dir, dest), Dir: dir}) // the code says it
	return exit
}

func TestDisaster_FaultsNameWhatIsNotProved(t *testing.T) {
	t.Parallel()
	good := Disaster{Acknowledged: 10, Rows: 11, Same: true}
	if faults := good.Faults(); len(faults) > 0 {
		t.Errorf("a good one has faults: %s", faults)
	}
	for says, change := range map[string]func(*Disaster){
		"no row was acknowledged":                func(d *Disaster) { d.Acknowledged, d.Rows = 0, 0 },
		"2 of 10 acknowledged rows did not come": func(d *Disaster) { d.Missing = 2 },
		"9 rows came back, 10 were acknowledged": func(d *Disaster) { d.Rows = 9 },
		"the proof of the restored server":       func(d *Disaster) { d.Same = false },
	} {
		bad := good
		change(&bad)
		if got := strings.Join(bad.Faults(), "; "); !strings.Contains(got, says) {
			t.Errorf("faults %q, want %q", got, says)
		}
	}
}

package runtime

import (
	"context"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
)

// clockApplier notes when each event reached it; the data of an event is its number.
type clockApplier struct {
	mu sync.Mutex
	at map[int]time.Time
}

func (a *clockApplier) Apply(_ context.Context, _ pgx.Tx, _ cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
	for ev, err := range events {
		if err != nil {
			return err
		}
		if n, err := strconv.Atoi(ev.Data.String); err == nil && ev.Type.String == "t" {
			a.mu.Lock()
			a.at[n] = time.Now()
			a.mu.Unlock()
		}
	}
	return nil
}

func (a *clockApplier) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.at)
}

// BenchmarkTwoHops measures the time from the commit on the root to the handler of a leaf behind a branch, with one
// daemon that ticks and runs all three nodes, at a steady rate of single inserts.
func BenchmarkTwoHops(b *testing.B) {
	for _, rate := range []int{10, 100} {
		b.Run(fmt.Sprint(rate), func(b *testing.B) { twoHops(b, rate) })
	}
}

func twoHops(b *testing.B, rate int) {
	r, br, l := newCascade(b)
	applier := &clockApplier{at: map[int]time.Time{}}
	c := configs.DefaultConfig()
	c.Instance, c.HTTP.Listen = "bench", configs.None
	c.Control.Socket = filepath.Join(b.TempDir(), "s")
	for _, n := range []*nodeOf{r, br, l} {
		db := database(n.name, n.DSN)
		db.Ticker = c.Ticker
		c.Databases = append(c.Databases, db)
	}
	c.Nodes = []configs.Node{nodeConfig("r"), nodeConfig("b")}
	d := runOptions(b, c, Options{Nodes: []Node{{Config: nodeConfig("l"), Applier: applier}}})
	wait := func(what string, cond func() bool) {
		for deadline := time.Now().Add(slow); !cond(); {
			if time.Now().After(deadline) {
				b.Fatal(what)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	wait("the nodes work", func() bool { return d.nodeStatus("l").Type == "leaf" && d.nodeStatus("b").Type == "branch" })
	var committed []time.Time
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for b.Loop() {
		<-tick.C
		exec(b, r.c, `select pgq.insert_event('q', 't', $1)`, strconv.Itoa(len(committed)))
		committed = append(committed, time.Now())
	}
	wait("all events arrive", func() bool { return applier.count() == len(committed) })
	lags := make([]float64, len(committed))
	for i, at := range committed {
		lags[i] = float64(applier.at[i].Sub(at).Microseconds()) / 1000
	}
	slices.Sort(lags)
	b.ReportMetric(lags[len(lags)/2], "p50-ms")
	b.ReportMetric(lags[len(lags)*99/100], "p99-ms")
	b.ReportMetric(lags[len(lags)-1], "max-ms")
}

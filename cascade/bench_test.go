package cascade_test

import (
	"context"
	"io"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/pgq"
)

// BenchmarkBranchCopy measures how fast a branch brings a batch, with its commit and its tick, against the physical copy
// of the same rows: one binary COPY piped into another, into a table with the same index. The two alternate, and the
// ratio is the median of the ratios of the rounds; 1 is as fast as the pipe.
func BenchmarkBranchCopy(b *testing.B) {
	const rows = 50000
	for _, size := range []int{200, 2000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) { branchCopy(b, rows*200/size, size) })
	}
}

func branchCopy(b *testing.B, rows, size int) {
	tr := newTree(b, skydHost, "r")
	tr.add(skydHost, "b", cascade.Branch, "r")
	w := tr.worker("b", cascade.WorkerOptions{MarkPeriod: time.Hour, PollPeriod: time.Millisecond})
	tr.exec("b", `create table public.raw (like pgq.event_template including all)`)
	tr.exec("b", `create index on public.raw (ev_txid)`)
	tr.follow(w, "b", tr.tick("r"))
	var ratios, rate []float64
	round := func() (worker, pipe time.Duration) {
		var txid int64
		tr.row("r", []any{&txid}, `
with i as materialized (select pgq.insert_event('q', 't', repeat('x', $2)) from generate_series(1, $1))
select txid_current() from (select count(*) from i) c`, rows, size)
		last := tr.tick("r")
		tr.exec("b", `truncate public.raw`)
		began := time.Now()
		copyPipe(b, tr.db("r"), tr.db("b"), txid)
		pipe = time.Since(began)
		for tr.completed("b") < last {
			p := ok[cascade.Pass](b)(w.Step(b.Context()))
			if p.Events == rows {
				worker = p.Took
			}
		}
		return worker, pipe
	}
	round() // does not count
	for b.Loop() {
		worker, pipe := round()
		ratios = append(ratios, pipe.Seconds()/worker.Seconds())
		rate = append(rate, float64(rows)/worker.Seconds())
	}
	slices.Sort(ratios)
	slices.Sort(rate)
	b.ReportMetric(ratios[len(ratios)/2], "x-pipe")
	b.ReportMetric(rate[len(rate)/2], "events/s")
}

// copyPipe copies the events of one transaction from one database to a table of another.
func copyPipe(b *testing.B, from, to *pgq.DB, txid int64) {
	b.Helper()
	ctx := b.Context()
	src, dst := ok[pooled](b)(acquire(ctx, from)), ok[pooled](b)(acquire(ctx, to))
	defer src.release()
	defer dst.release()
	r, w := io.Pipe()
	const fields = `ev_id, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4`
	go func() {
		_, err := src.copyTo(ctx, w, `copy (select `+fields+` from pgq.event_1 where ev_txid = `+
			strconv.FormatInt(txid, 10)+` order by ev_id) to stdout (format binary)`)
		w.CloseWithError(err)
	}()
	if err := dst.copyFrom(ctx, r, `copy public.raw (`+fields+`) from stdin (format binary)`); err != nil {
		b.Fatal(err)
	}
}

// pooled is a connection for COPY.
type pooled struct {
	release  func()
	copyTo   func(ctx context.Context, w io.Writer, sql string) (int64, error)
	copyFrom func(ctx context.Context, r io.Reader, sql string) error
}

func acquire(ctx context.Context, db *pgq.DB) (pooled, error) {
	c, err := db.Acquire(ctx)
	if err != nil {
		return pooled{}, err
	}
	return pooled{
		release: c.Release,
		copyTo: func(ctx context.Context, w io.Writer, sql string) (int64, error) {
			tag, err := c.Conn().PgConn().CopyTo(ctx, w, sql)
			return tag.RowsAffected(), err
		},
		copyFrom: func(ctx context.Context, r io.Reader, sql string) error {
			_, err := c.Conn().PgConn().CopyFrom(ctx, r, sql)
			return err
		},
	}, nil
}

package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// Sections of the capture table.
const (
	captureMany = "UPDATE of many rows"
	captureOne  = "UPDATE of one row, 100 pipelined"
)

// Rows of the capture table that targets name.
const (
	rowNoTrigger     = "no trigger"
	rowPgQLogutriga  = "PgQ C logutriga"
	rowSkydLogutriga = "skyd logutriga"
	rowSkydRow       = "skyd generated row trigger"
	rowSkydStatement = "skyd generated statement trigger"
)

// catcher is one way to turn changes of a table into events.
type catcher struct {
	system string
	name   string
	// needs is a function without which the row is absent.
	needs string
	// trigger are the statements that put it on bench_capture; none for the limit.
	trigger []string
}

// captureTrigger is a trigger by the contract of PgQ.
func captureTrigger(schema, function string) []string {
	return []string{fmt.Sprintf("create trigger capture after insert or update or delete on public.bench_capture"+
		" for each row execute function %s.%s('bench')", schema, function)}
}

func catchers() []catcher {
	all := []catcher{
		{system: hostRaw, name: rowNoTrigger},
		{system: hostPgQ, name: rowPgQLogutriga, trigger: captureTrigger("pgq", "logutriga")},
		{system: hostPgQ, name: "PgQ C jsontriga", trigger: captureTrigger("pgq", "jsontriga")},
		{system: hostPgQ, name: "PgQ C sqltriga", trigger: captureTrigger("pgq", "sqltriga")},
		{system: hostSkyd, name: rowSkydLogutriga, trigger: captureTrigger("pgq", "logutriga")},
		{system: hostSkyd, name: "skyd jsontriga", trigger: captureTrigger("pgq", "jsontriga")},
		{system: hostSkyd, name: "skyd sqltriga", trigger: captureTrigger("pgq", "sqltriga")},
	}
	return append(append(all, skydCatchers()...),
		catcher{system: hostPgQue, name: "PgQue logutriga", needs: "pgque.logutriga()", trigger: captureTrigger("pgque", "logutriga")})
}

// captureTable is the table of change capture.
func (r *run) captureTable() tableDef {
	return tableDef{
		name: tableCapture, title: "Change capture: rows changed with a trigger on the table", columns: perEventColumns,
		sections: r.captureSections,
		note: "Table of 8 columns, about 200 bytes a row. The figures include the UPDATE itself, " +
			"which is all of the first row.",
	}
}

func (r *run) captureSections(ctx context.Context) ([]section, error) {
	var sections []section
	for _, s := range []section{
		{name: captureMany, commit: asynchronous, reference: rowPgQLogutriga, events: r.sizes.captureRows},
		{name: captureOne, commit: asynchronous, reference: rowPgQLogutriga, events: r.sizes.captureSingle},
	} {
		for _, w := range catchers() {
			c, err := r.capturer(ctx, s, w)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			if c.absent != "" && w.name == s.reference {
				s.reference = rowNoTrigger
			}
			s.contenders = append(s.contenders, c)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

// capturer makes a contender of a catcher.
func (r *run) capturer(ctx context.Context, s section, w catcher) (contender, error) {
	c := contender{name: w.name}
	h, absent, err := r.queueHost(ctx, w.system)
	if err != nil || absent != "" {
		c.absent = absent
		return c, err
	}
	if w.needs != "" && !h.has(ctx, w.needs) {
		c.absent = "there is no " + w.needs
		return c, nil
	}
	events := ""
	if w.system != hostRaw {
		if events, err = h.eventTable(ctx, benchQueue); err != nil {
			return c, err
		}
	}
	c.reset = func(ctx context.Context) error { return captureReset(ctx, h, w, events, r.sizes.captureRows) }
	c.run = func(ctx context.Context) (figures, error) {
		f, err := r.meter.perEvent(ctx, s.events, func(ctx context.Context) error { return change(ctx, h.db, s) })
		if err != nil || events == "" {
			return f, err
		}
		n, err := get[int](ctx, h.db, "select count(*) from "+events)
		if err != nil {
			return nil, err
		}
		return f, counted(n, s.events)
	}
	return c, nil
}

// captureReset makes the table anew, so that no round works on the dead rows of the one before, with the trigger, and
// lets it fire once where the first time costs more.
func captureReset(ctx context.Context, h *host, w catcher, events string, rows int) error {
	err := do(ctx, h.db, "drop table if exists public.bench_capture", `
create table public.bench_capture (id int primary key, customer text, article text, amount numeric, created timestamptz,
 paid boolean, version int, note text)`, fmt.Sprintf(`
insert into public.bench_capture
select n, 'customer ' || n, 'blue widget (large)', n * 1.25, '2024-01-01 00:00:00+00'::timestamptz + n * interval '1 minute',
       n %% 2 = 0, 1, 'to be sent by parcel before friday noon, gift wrapping & card = yes, ring twice at the door'
  from generate_series(1, %d) n`, rows), "analyze public.bench_capture")
	if err == nil {
		err = do(ctx, h.db, w.trigger...)
	}
	if err == nil {
		err = do(ctx, h.db, "update public.bench_capture set version = 1 where id = 1")
	}
	if err == nil && events != "" {
		err = do(ctx, h.db, "truncate "+events)
	}
	return err
}

// change changes as many rows as the section has events.
func change(ctx context.Context, db *pgq.DB, s section) error {
	if s.name == captureMany {
		return do(ctx, db, "update public.bench_capture set version = version + 1")
	}
	for done := 0; done < s.events; {
		var pipeline pgx.Batch
		for range min(pipelineLen, s.events-done) {
			done++
			pipeline.Queue("update public.bench_capture set version = version + 1 where id = $1", done)
		}
		if err := db.SendBatch(ctx, &pipeline).Close(); err != nil {
			return err
		}
	}
	return nil
}

package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.opentelemetry.io/otel/trace"

	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// Delays of the keeper of backups.
const (
	backupLook  = time.Minute
	backupBase  = 10 * time.Second
	backupLimit = 10 * time.Minute
)

// BackupKept is what one look of the keeper of backups did.
type BackupKept struct {
	// Made is the id of a new backup; empty: none was due.
	Made string
	// Removed is the number of expired backups.
	Removed int
	// Last is when the newest backup was complete, Window how far back can be restored; zero: never.
	Last, Window time.Time
	// Bytes is the size of the newest backup.
	Bytes int64
}

// BackupKeeper makes base backups when they are due, and lets the old ones go after a new one. Whether one is due is read
// from the repository.
type BackupKeeper struct {
	env    Env
	p      ArchiveParams
	handle ArchiveHandle
	state  reporter
	work   worker
	clock  timers
	fails  int
}

// backupProps builds the keeper of backups of an archive.
func backupProps(env Env, p ArchiveParams, handle ArchiveHandle) *actor.Props {
	return newProps(env, kindBackup, func() actor.Actor {
		return &BackupKeeper{env: env, p: p, handle: handle, state: reporter{env: env, kind: kindBackup}}
	})
}

// Receive implements actor.Actor.
func (b *BackupKeeper) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		b.state.set(c, messages.Running, "", nil, time.Time{})
		b.look(c)
	case *actor.Stopping, *actor.Restarting:
		b.clock.stop()
		b.work.halt(haltGrace)
	case messages.ReportStatus:
		b.state.repeat(c)
	case done[BackupKept]:
		b.looked(c, m)
	case wake:
		if b.clock.fired(m) {
			b.look(c)
		}
	}
}

// look makes a backup if one is due.
func (b *BackupKeeper) look(c actor.Context) {
	p, handle, tracer := b.p, b.handle, b.env.Tracer
	err := start(&b.work, c, b.env.Context, func(ctx context.Context) (BackupKept, error) {
		began := time.Now()
		kept, err := p.KeepBackups(ctx, handle)
		if kept.Made != "" || err != nil { // a look that finds nothing due has no span
			_, span := tracer.Start(ctx, pgq.SpanName(pgq.OpBackup, p.Source), trace.WithNewRoot(), trace.WithTimestamp(began))
			pgq.RecordError(span, err)
			span.End()
		}
		return kept, err
	})
	if err != nil {
		panic(err) // one look at a time
	}
}

// looked waits for the next look.
func (b *BackupKeeper) looked(c actor.Context, d done[BackupKept]) {
	if !finish(&b.work, d) {
		return
	}
	if d.err != nil {
		delay := fullJitter(backupBase, backupLimit, b.fails)
		b.fails++
		b.state.set(c, messages.Backoff, "", d.err, time.Now().Add(delay))
		b.clock.arm(c, "look", delay)
		return
	}
	b.fails = 0
	b.state.set(c, messages.Running, "", nil, time.Time{})
	if d.val.Made != "" {
		b.env.Log.Info("base backup complete", "source", b.p.Source, "backup", d.val.Made, "bytes", d.val.Bytes, "expired", d.val.Removed)
	}
	b.env.report(c, messages.BackupsSeen{Source: b.p.Source, Last: d.val.Last, Window: d.val.Window, Bytes: d.val.Bytes})
	b.clock.arm(c, "look", backupLook)
}

package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/messages"
)

// ErrNoSource is returned by Reload when the daemon was built without Options.Load.
var ErrNoSource = errors.New("this daemon has no source to read its configuration from again")

// Reloaded says what a reload has done. Databases and servers are told by name, archives as wal/SOURCE.
type Reloaded struct {
	Changed bool `json:"changed"`
	// Added, Removed, Replaced (another connection), Adjusted (other settings) and Untouched are databases.
	Added     []string `json:"added"`
	Removed   []string `json:"removed"`
	Replaced  []string `json:"replaced"`
	Adjusted  []string `json:"adjusted"`
	Untouched []string `json:"untouched"`
	// Keys are the keys outside of the databases that took effect.
	Keys []string `json:"keys"`
	// RestartNeeded are the keys that changed and take effect when the daemon starts again.
	RestartNeeded []string `json:"restart_needed"`
	Warnings      []string `json:"warnings"`
	// Operation is the number of the reload in skyd op.
	Operation int64 `json:"operation_id"`
}

// Reload reads the configuration again and puts the difference into force: only what changed is touched. A
// configuration that is refused (configs.Faults) leaves everything as it is. Reloads take turns; each reads the source
// when it is its turn. Safe for concurrent use.
func (d *Daemon) Reload(ctx context.Context) (Reloaded, error) {
	if d.opts.Load == nil {
		return Reloaded{}, ErrNoSource
	}
	select {
	case <-d.ready:
	case <-ctx.Done():
		return Reloaded{}, ctx.Err()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)() // the end does not wait for a source that hangs
	select {
	case d.reloading <- struct{}{}:
		defer func() { <-d.reloading }()
	case <-ctx.Done():
		return Reloaded{}, fmt.Errorf("wait for another reload: %w", ctx.Err())
	}
	if d.life.Err() != nil {
		return Reloaded{}, actors.ErrStopping
	}
	d.notify.reloading()
	defer func() { d.notify.ready(d.statusLine()) }()
	now := time.Now()
	op := d.operations.Begin("reload", "", "")
	r, err := d.reload(ctx, op)
	op.End(err)
	r.Operation = op.ID()
	loaded := messages.ConfigLoaded{At: now, Good: now, RestartNeeded: r.RestartNeeded}
	if err != nil {
		loaded.Err = oneLine(err.Error())
		d.log.Error("reload refused; everything runs on as before", "err", loaded.Err)
	} else {
		d.log.Info("configuration reloaded", "changed", r.Changed, "added", r.Added, "removed", r.Removed,
			"replaced", r.Replaced, "adjusted", r.Adjusted, "keys", r.Keys)
	}
	if len(r.RestartNeeded) > 0 {
		d.log.Warn("these keys take effect only when skyd is started again", "keys", strings.Join(r.RestartNeeded, ", "))
	}
	d.system.Root.Send(d.root, loaded)
	return r, err
}

// oneLine joins the lines of an error for the log.
func oneLine(text string) string { return strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ") }

// reload reads the source, builds everything that is wanted, and only then changes what runs.
func (d *Daemon) reload(ctx context.Context, op *actors.Operation) (Reloaded, error) {
	op.Step("read the configuration")
	read, err := d.opts.Load(ctx)
	if err != nil {
		return Reloaded{}, err
	}
	if err := read.Validate(ctx); err != nil {
		return Reloaded{}, err
	}
	r := Reloaded{Warnings: orEmpty(read.Warnings), Keys: []string{}, RestartNeeded: []string{}}
	current := d.inForce()
	next := configs.KeepFixed(current, read.Config)
	for _, key := range configs.Diff(current, read.Config) {
		switch {
		case configs.NeedsRestart(key), strings.HasPrefix(key, "log.") && d.opts.ApplyLog == nil:
			r.RestartNeeded = append(r.RestartNeeded, key)
		case key != "databases":
			r.Keys = append(r.Keys, key)
		}
	}
	for _, w := range read.Warnings {
		d.log.Warn("questionable configuration", "warning", w)
	}
	op.Step("put the difference into force")
	answer, err := d.reconfigure(ctx, next)
	if err != nil {
		return Reloaded{}, err
	}
	if next.Log != current.Log && d.opts.ApplyLog != nil {
		d.opts.ApplyLog(next.Log)
	}
	d.mu.Lock()
	d.config = next
	d.mu.Unlock()
	r.Added, r.Removed, r.Replaced = orEmpty(answer.Added), orEmpty(answer.Removed), orEmpty(answer.Replaced)
	r.Adjusted, r.Untouched = orEmpty(answer.Adjusted), orEmpty(answer.Untouched)
	r.Changed = len(r.Added)+len(r.Removed)+len(r.Replaced)+len(r.Adjusted)+len(r.Keys) > 0
	return r, nil
}

// orEmpty keeps null out of JSON.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// reconfigure hands the wanted tree to the root actor and waits for its answer. Asked once: the answer cannot get lost
// while the root actor lives, and its end is the end of the daemon.
func (d *Daemon) reconfigure(ctx context.Context, c configs.Config) (actors.Reconfigured, error) {
	reply := make(chan actors.Reconfigured, 1)
	dbs, discoveries := d.wanted(d.context, c)
	d.system.Root.Send(d.root, actors.Reconfigure{Databases: dbs, Discoveries: discoveries, Archives: d.archiveParams(c), Reply: reply})
	select {
	case r := <-reply:
		return r, r.Err
	case <-d.gone:
		return actors.Reconfigured{}, actors.ErrStopping
	case <-ctx.Done():
		return actors.Reconfigured{}, fmt.Errorf("hand over the configuration: %w", ctx.Err())
	}
}

// connectionKey stands for everything that the connections of a database depend on; it cannot be read back, because the
// actors do not need to know passwords.
func connectionKey(db configs.Database, instance, database string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %d %q %q %v %q %q", instance, database, db.DSN, db.Password, db.PasswordFile,
		db.Ticker.Parallel, db.Include, db.Exclude, db.Discover, db.Pooler, db.LeaseDSN))
	return hex.EncodeToString(sum[:])
}

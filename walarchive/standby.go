package walarchive

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// StandbyStatus is what a standby says about itself.
type StandbyStatus struct {
	InRecovery bool `json:"in_recovery"`
	// Pause is not paused, pause requested or paused.
	Pause    string `json:"replay_pause_state"`
	Timeline uint32 `json:"timeline"`
	// Replayed is the end of what queries see; Received that of what streaming brought.
	Replayed  LSN    `json:"replayed_lsn"`
	Received  LSN    `json:"received_lsn"`
	Streaming bool   `json:"streaming"`
	Sender    string `json:"sender,omitempty"`
	// LagSeconds is the age of the last replayed commit.
	LagSeconds float64 `json:"lag_seconds"`
}

// ReadStandby asks a server how its recovery stands.
func ReadStandby(ctx context.Context, s Server) (StandbyStatus, error) {
	var (
		st                 StandbyStatus
		replayed, received *string
		timeline           int64
	)
	err := s.QueryRow(ctx, `
		select pg_is_in_recovery(),
			case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() else '' end,
			pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text,
			coalesce(nullif((select min_recovery_end_timeline from pg_control_recovery()), 0), (select timeline_id from pg_control_checkpoint())),
			coalesce((select status = 'streaming' from pg_stat_wal_receiver), false),
			coalesce((select sender_host || ':' || sender_port from pg_stat_wal_receiver), ''),
			coalesce(extract(epoch from now() - pg_last_xact_replay_timestamp()), 0)::float8`).
		Scan(&st.InRecovery, &st.Pause, &replayed, &received, &timeline, &st.Streaming, &st.Sender, &st.LagSeconds)
	if err != nil {
		return st, err
	}
	st.Timeline = uint32(timeline)
	for text, to := range map[*string]*LSN{replayed: &st.Replayed, received: &st.Received} {
		if text != nil {
			if *to, err = ParseLSN(*text); err != nil {
				return st, err
			}
		}
	}
	return st, nil
}

// errNoStandby is returned for a server that is no standby.
func errNoStandby() error { return fmt.Errorf("%w: the server is not in recovery", ErrRefused) }

// PauseReplay stops replaying at the next record; ResumeReplay goes on. changed tells whether that was new.
func PauseReplay(ctx context.Context, s Server, pause bool) (changed bool, err error) {
	st, err := ReadStandby(ctx, s)
	if err != nil {
		return false, err
	}
	if !st.InRecovery {
		return false, errNoStandby()
	}
	if pause == (st.Pause != "not paused") {
		return false, nil
	}
	call := "select pg_wal_replay_resume()"
	if pause {
		call = "select pg_wal_replay_pause()"
	}
	_, err = s.Exec(ctx, call)
	return err == nil, err
}

// PromoteOptions are the details of a promotion.
type PromoteOptions struct {
	// AllowLoss promotes although the archive holds WAL that the standby has not replayed.
	AllowLoss bool
	// Wait is how long to wait for the end of recovery.
	Wait time.Duration
	// DryRun makes the checks only.
	DryRun bool
}

// Promotion is what a promotion did.
type Promotion struct {
	Changed  bool `json:"changed"`
	Replayed LSN  `json:"replayed_lsn"`
	// Archived is the end of the WAL in the archive, Lost what lies between.
	Archived LSN    `json:"archived_lsn"`
	Lost     int64  `json:"lost_bytes"`
	Timeline uint32 `json:"timeline"`
}

// Promote ends the recovery of a standby, unless the archive holds WAL of its line that it has not replayed. ErrRefused.
func (r *Repo) Promote(ctx context.Context, s Server, o PromoteOptions) (Promotion, error) {
	var p Promotion
	st, err := ReadStandby(ctx, s)
	if err != nil {
		return p, err
	}
	p.Replayed, p.Timeline = max(st.Replayed, st.Received), st.Timeline
	if !st.InRecovery {
		return p, nil
	}
	var system string
	if err := s.QueryRow(ctx, "select system_identifier::text from pg_control_system()").Scan(&system); err != nil {
		return p, err
	}
	id, err := strconv.ParseUint(system, 10, 64)
	if err != nil {
		return p, err
	}
	if p.Archived, err = r.walEnd(ctx, id, st.Timeline, p.Replayed); err != nil {
		return p, err
	}
	if p.Lost = int64(max(p.Archived, p.Replayed) - p.Replayed); p.Lost > 0 && !o.AllowLoss {
		return p, fmt.Errorf("%w: the standby is at %s, the archive goes to %s: %d bytes would be lost", ErrRefused, p.Replayed, p.Archived, p.Lost)
	}
	if o.DryRun {
		return p, nil
	}
	var done bool
	if err := s.QueryRow(ctx, "select pg_promote(true, $1)", int(max(o.Wait, time.Second).Seconds())).Scan(&done); err != nil {
		return p, err
	}
	if !done {
		return p, fmt.Errorf("the server has not ended recovery within %s: %w", o.Wait, context.DeadlineExceeded)
	}
	p.Changed = true
	if st, err = ReadStandby(ctx, s); err == nil {
		p.Timeline = st.Timeline
	}
	return p, err
}

// walEnd is where the WAL of a timeline ends in the archive, seen from a position on it.
func (r *Repo) walEnd(ctx context.Context, system uint64, timeline uint32, from LSN) (LSN, error) {
	size, err := r.segmentSize(ctx, system)
	if err != nil || size == 0 {
		return from, err
	}
	m, err := r.walMap(ctx, system, size)
	if err != nil {
		return from, err
	}
	c, err := m.cover(ctx, from, timeline)
	if err != nil {
		return from, err
	}
	return c.Last, nil // the switch that closes a segment counts as replayed up to the segment's end
}

// SyncOptions are the details of a change of synchronous_standby_names.
type SyncOptions struct {
	// MaxLag is how many bytes a standby may be behind; 0: 16 MiB.
	MaxLag int64
	// Wait is how long to wait until the server counts the standbys as synchronous.
	Wait   time.Duration
	DryRun bool
}

// Sender is one connected standby or receiver, as its primary sees it.
type Sender struct {
	Name  string `json:"name"`
	State string `json:"state"`
	Sync  string `json:"sync_state"`
	Lag   int64  `json:"flush_lag_bytes"`
}

// SyncStatus is the setting and who is connected.
type SyncStatus struct {
	Changed bool     `json:"changed"`
	Names   string   `json:"synchronous_standby_names"`
	Senders []Sender `json:"senders"`
}

// ReadSync asks a primary for its synchronous standbys.
func ReadSync(ctx context.Context, s Server) (SyncStatus, error) {
	st := SyncStatus{Senders: []Sender{}}
	if err := s.QueryRow(ctx, "select current_setting('synchronous_standby_names')").Scan(&st.Names); err != nil {
		return st, err
	}
	rows, err := s.Query(ctx, `
		select coalesce(application_name, ''), coalesce(state, ''), coalesce(sync_state, ''),
			coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), flush_lsn), 9223372036854775807)::int8
		from pg_stat_replication order by 1`)
	if err != nil {
		return st, err
	}
	var one Sender
	_, err = pgx.ForEachRow(rows, []any{&one.Name, &one.State, &one.Sync, &one.Lag}, func() error {
		st.Senders = append(st.Senders, one)
		return nil
	})
	return st, err
}

// syncRule is a parsed synchronous_standby_names: how many of whom.
type syncRule struct {
	need  int
	names []string // "*": anybody
}

// syncForm is the long form of synchronous_standby_names.
var syncForm = regexp.MustCompile(`(?is)^\s*(?:(first|any)\s+)?(\d+)\s*\((.*)\)\s*$`)

// parseSync reads a value of synchronous_standby_names.
func parseSync(text string) (syncRule, error) {
	if strings.TrimSpace(text) == "" {
		return syncRule{}, nil
	}
	rule, list := syncRule{need: 1}, text
	if m := syncForm.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[2])
		if err != nil || n == 0 {
			return rule, fmt.Errorf("%w: %q wants %s standbys", ErrOptions, text, m[2])
		}
		rule.need, list = n, m[3]
	}
	for part := range strings.SplitSeq(list, ",") {
		name := strings.Trim(strings.TrimSpace(part), `"`)
		if name == "" || strings.ContainsAny(name, "()") {
			return rule, fmt.Errorf("%w: %q is no list of standbys", ErrOptions, text)
		}
		rule.names = append(rule.names, name)
	}
	if rule.need > len(rule.names) && !slices.Contains(rule.names, "*") {
		return rule, fmt.Errorf("%w: %q wants %d of %d standbys", ErrOptions, text, rule.need, len(rule.names))
	}
	return rule, nil
}

// matches lists the senders that the rule names and that are fit.
func (rule syncRule) matches(senders []Sender, fit func(Sender) bool) (n int) {
	for _, s := range senders {
		named := slices.ContainsFunc(rule.names, func(name string) bool { return name == "*" || strings.EqualFold(name, s.Name) })
		if named && fit(s) {
			n++
		}
	}
	return n
}

// SetSync changes synchronous_standby_names and waits until the server acts on it. It refuses names that nobody serves:
// every commit would wait for ever. ErrRefused.
func SetSync(ctx context.Context, s Server, names string, o SyncOptions) (SyncStatus, error) {
	rule, err := parseSync(names)
	if err != nil {
		return SyncStatus{}, err
	}
	st, err := ReadSync(ctx, s)
	if err != nil {
		return st, err
	}
	limit := o.MaxLag
	if limit <= 0 {
		limit = 16 << 20
	}
	have := rule.matches(st.Senders, func(s Sender) bool { return s.State == "streaming" && s.Lag <= limit })
	if have < rule.need {
		return st, fmt.Errorf("%w: %q needs %d standby(s) that stream with at most %d bytes of lag, there are %d: %s", ErrRefused, names,
			rule.need, limit, have, senderText(st.Senders))
	}
	if st.Names == names || o.DryRun {
		return st, nil
	}
	if _, err := s.Exec(ctx, "alter system set synchronous_standby_names = "+quoteText(names)); err != nil {
		return st, err
	}
	if _, err := s.Exec(ctx, "select pg_reload_conf()"); err != nil {
		return st, err
	}
	wait, cancel := context.WithTimeout(ctx, max(o.Wait, time.Second))
	defer cancel()
	for {
		if st, err = ReadSync(wait, s); err != nil {
			return st, err
		}
		st.Changed = true
		inSync := rule.matches(st.Senders, func(s Sender) bool { return s.Sync == "sync" || s.Sync == "quorum" })
		if st.Names == names && inSync >= rule.need {
			return st, nil
		}
		if !pause(wait, 100*time.Millisecond) {
			return st, errors.Join(fmt.Errorf("synchronous_standby_names is set, but the server does not count %d standby(s) as synchronous: %s",
				rule.need, senderText(st.Senders)), context.Cause(wait))
		}
	}
}

// senderText lists senders for people.
func senderText(list []Sender) string {
	if len(list) == 0 {
		return "nobody is connected"
	}
	parts := make([]string, len(list))
	for i, s := range list {
		parts[i] = fmt.Sprintf("%s is %s, %s", s.Name, s.State, s.Sync)
	}
	return strings.Join(parts, "; ")
}

// AwaitStandby waits until a standby streams through a slot of the primary (with the slot "": until anybody streams), and
// tells how many bytes it is behind.
func AwaitStandby(ctx context.Context, primary Server, slot string) (lag int64, err error) {
	for {
		err := primary.QueryRow(ctx, `
			select coalesce(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), r.flush_lsn), 0)::int8
			from pg_stat_replication r left join pg_replication_slots s on s.active_pid = r.pid
			where r.state = 'streaming' and ($1 = '' or s.slot_name = $1) limit 1`, slot).Scan(&lag)
		if !errors.Is(err, pgx.ErrNoRows) {
			return lag, err
		}
		if !pause(ctx, 200*time.Millisecond) {
			return 0, fmt.Errorf("the standby does not stream: %w", context.Cause(ctx))
		}
	}
}

package pgq

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Level says how bad a finding is.
type Level string

// Levels of findings, from harmless to bad.
const (
	Fine    Level = "ok"
	Note    Level = "note"
	Warning Level = "warning"
	Fault   Level = "fault"
)

// Finding is one thing that was checked.
type Finding struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"` // what to do; empty when nothing is to be done
}

// Vitals are the facts about a database that Diagnose judges.
type Vitals struct {
	Server        int    // 160004
	User          string // the role of the session
	Transport     string // unix, plain, optional, encrypted, authority or verified; see Transport
	Local         bool   // over a unix socket or the loopback address
	InRecovery    bool
	Version       string // of schema pgq; empty: not installed
	Usable        bool   // a version that we work with
	CanTick       bool   // the role may execute pgq.ticker and pgq.maint_operations
	Unpinned      []string
	Settings      map[string]string
	Prepared      int
	PreparedAge   time.Duration
	OldestXact    time.Duration // of the sessions that the role may see
	OldestXactWho string
	IdleSlots     []string
	Tickers       []string      // sessions of other programs that tick
	ClockOff      time.Duration // server's clock minus ours
	FutureTicks   []string      // queues whose ticks are ahead of the transaction ids
	Queues        []QueueInfo
	Consumers     []ConsumerInfo
}

// Transport tells how a pool's connections are protected: unix (a local
// socket), plain, optional (sslmode prefer or allow), encrypted (require: the
// server could be anybody), authority (verify-ca) or verified (verify-full).
func (db *DB) Transport() string {
	c := db.Config().ConnConfig
	switch {
	case strings.HasPrefix(c.Host, "/"):
		return "unix"
	case slices.ContainsFunc(c.Fallbacks, func(f *pgconn.FallbackConfig) bool { return (f.TLSConfig == nil) != (c.TLSConfig == nil) }):
		return "optional"
	case c.TLSConfig == nil:
		return "plain"
	case !c.TLSConfig.InsecureSkipVerify:
		return "verified"
	case c.TLSConfig.VerifyPeerCertificate != nil:
		return "authority"
	}
	return "encrypted"
}

// vitalSettings are the settings of the server that matter.
var vitalSettings = []string{
	"autovacuum", "track_counts", "default_transaction_isolation", "default_transaction_read_only",
	"idle_in_transaction_session_timeout", "track_commit_timestamp", "fsync", "full_page_writes",
}

// Examine reads the vitals of a database. It changes nothing and needs no
// rights beyond connecting; what the role may not see is not judged.
func Examine(ctx context.Context, db *DB) (Vitals, error) {
	v := Vitals{Transport: db.Transport(), Settings: map[string]string{}}
	steps := []func(context.Context, *DB, *Vitals) error{examineServer, examineSessions, examineSchema, examineQueues}
	for _, step := range steps {
		if err := step(ctx, db, &v); err != nil {
			return v, fmt.Errorf("examine database: %w", classify(err))
		}
	}
	return v, nil
}

// examineServer reads version, settings and clock.
func examineServer(ctx context.Context, db *DB, v *Vitals) error {
	const settings = `select name, setting from pg_catalog.pg_settings where name = any($1)`
	const server = `
select current_setting('server_version_num')::int, session_user::text, pg_catalog.pg_is_in_recovery(),
       pg_catalog.inet_server_addr() is null or host(pg_catalog.inet_server_addr()) in ('127.0.0.1', '::1'),
       pg_catalog.clock_timestamp()`
	rows, err := db.Query(ctx, settings, vitalSettings)
	if err != nil {
		return err
	}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { v.Settings[name] = value; return nil }); err != nil {
		return err
	}
	var now time.Time
	begin := time.Now()
	if err := db.QueryRow(ctx, server).Scan(&v.Server, &v.User, &v.InRecovery, &v.Local, &now); err != nil {
		return err
	}
	trip := time.Since(begin)
	v.ClockOff = now.Sub(begin.Add(trip / 2))
	if v.ClockOff.Abs() < trip {
		v.ClockOff = 0 // within what can be measured
	}
	return nil
}

// examineSessions reads what holds back vacuum and who else ticks.
func examineSessions(ctx context.Context, db *DB, v *Vitals) error {
	const sessions = `
select (select count(*) from pg_catalog.pg_prepared_xacts where database = pg_catalog.current_database())::int,
       coalesce(extract(epoch from (select max(pg_catalog.clock_timestamp() - prepared) from pg_catalog.pg_prepared_xacts
                                     where database = pg_catalog.current_database())), 0)::float8,
       coalesce(extract(epoch from pg_catalog.clock_timestamp() - o.xact_start), 0)::float8,
       coalesce(o.who, ''),
       coalesce((select array_agg(slot_name::text order by slot_name) from pg_catalog.pg_replication_slots
                  where not active and (xmin is not null or catalog_xmin is not null)), '{}'),
       coalesce((select array_agg(distinct coalesce(nullif(a.application_name, ''), 'pid ' || a.pid)) from pg_catalog.pg_stat_activity a
                  where a.datname = pg_catalog.current_database() and a.pid <> pg_catalog.pg_backend_pid()
                    and a.application_name not like 'skyd%'
                    and (a.application_name ~* 'pgqd' or a.query ~* 'pgq\.(ticker|maint_operations)\s*\(')), '{}')
  from (select 1) one
  left join lateral (
        select xact_start, 'pid ' || pid || coalesce(' of ' || usename, '') || coalesce(' (' || nullif(application_name, '') || ')', '') as who
          from pg_catalog.pg_stat_activity
         where datname = pg_catalog.current_database() and pid <> pg_catalog.pg_backend_pid() and xact_start is not null
           and backend_type = 'client backend'
         order by xact_start limit 1) o on true`
	var prepared, oldest float64
	err := db.QueryRow(ctx, sessions).Scan(&v.Prepared, &prepared, &oldest, &v.OldestXactWho, &v.IdleSlots, &v.Tickers)
	v.PreparedAge, v.OldestXact = seconds(prepared), seconds(oldest)
	return err
}

// examineSchema reads what is installed and what the role may do with it.
func examineSchema(ctx context.Context, db *DB, v *Vitals) error {
	const schema = `
select coalesce((select array_agg(p.oid::pg_catalog.regprocedure::text order by 1) from pg_catalog.pg_proc p
                   join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                  where n.nspname in ('pgq', 'pgq_coop', 'pgq_ext', 'pgq_node', 'londiste') and p.prosecdef
                    and not exists (select from pg_catalog.unnest(p.proconfig) c where c like 'search_path=%')), '{}'),
       (select coalesce(bool_and(pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_function_privilege(p.oid, 'execute')), false)
          from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
         where n.nspname = 'pgq' and p.proname in ('ticker', 'maint_operations', 'maint_retry_events'))`
	var err error
	if v.Version, v.Usable, err = Installed(ctx, db); err != nil {
		return err
	}
	return db.QueryRow(ctx, schema).Scan(&v.Unpinned, &v.CanTick)
}

// examineQueues reads the state of queues and consumers.
func examineQueues(ctx context.Context, db *DB, v *Vitals) (err error) {
	const future = `
select coalesce(array_agg(q.queue_name::text order by q.queue_name), '{}') from pgq.queue q
 cross join lateral (select t.tick_snapshot from pgq.tick t where t.tick_queue = q.queue_id
                      order by t.tick_queue desc, t.tick_id desc limit 1) t
 where pg_catalog.pg_snapshot_xmax(t.tick_snapshot::text::pg_snapshot) > pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())`
	if !v.Usable || v.InRecovery {
		return nil
	}
	if v.Queues, err = QueueInfos(ctx, db); err == nil {
		if v.Consumers, err = ConsumerInfos(ctx, db); err == nil {
			err = db.QueryRow(ctx, future).Scan(&v.FutureTicks)
		}
	}
	if state := SQLState(err); state == "42501" || state == "42P01" {
		return nil // told by CanTick, or by Problems: a broken queue must not hide the rest
	}
	return err
}

// Diagnose judges the vitals of a database at a moment: every check gives one
// finding, also the good ones, in a fixed order.
func Diagnose(v Vitals, now time.Time) []Finding {
	findings := diagnoseServer(v)
	findings = append(findings, diagnoseSchema(v)...)
	findings = append(findings, diagnoseHygiene(v)...)
	return append(findings, diagnoseQueues(v, now)...)
}

// pick is a finding when the condition holds, and an all-clear otherwise.
func pick(name string, bad bool, level Level, fine, text, remedy string) Finding {
	if !bad {
		return Finding{Name: name, Level: Fine, Text: fine}
	}
	return Finding{Name: name, Level: level, Text: text, Remedy: remedy}
}

func diagnoseServer(v Vitals) []Finding {
	version := fmt.Sprintf("PostgreSQL %d", v.Server/10000)
	exposed := !v.Local && v.Transport != "verified" && v.Transport != "unix"
	return []Finding{
		pick("server", v.Server < 140000, Fault, version, version+" is older than 14", "upgrade the server"),
		pick("primary", v.InRecovery, Note, "the server takes writes", "the server is a standby: nothing is ticked there",
			"none, if a failover is under way or the primary is configured too"),
		pick("tls", exposed, Warning, "the connection is "+v.Transport, "the connection to another machine is "+v.Transport+
			": passwords and events can be read, or the server be another one", "set sslmode=verify-full and sslrootcert in the dsn"),
		pick("clock", v.ClockOff.Abs() > 2*time.Second, Warning, "the clocks agree", fmt.Sprintf("the server's clock is off by %s", v.ClockOff.Round(time.Millisecond)),
			"run an NTP client on both machines: lags are measured by the server's clock"),
		pick("isolation", v.Settings["default_transaction_isolation"] != "read committed", Fault, "transactions are read committed",
			"default_transaction_isolation is "+v.Settings["default_transaction_isolation"]+": ticks are refused",
			"alter role "+v.User+" set default_transaction_isolation = 'read committed'"),
		pick("read_only", v.Settings["default_transaction_read_only"] == "on", Fault, "transactions may write",
			"default_transaction_read_only is on: nothing can be ticked", "alter role "+v.User+" set default_transaction_read_only = off"),
		pick("durable", v.Settings["fsync"] != "on" || v.Settings["full_page_writes"] != "on", Fault, "committed events survive a crash",
			"fsync or full_page_writes is off: a crash of the machine loses or corrupts events", "set both to on, and reload the server"),
		{Name: "commit_timestamp", Level: Fine, Text: "track_commit_timestamp is " + v.Settings["track_commit_timestamp"] + "; skyd does not need it"},
	}
}

func diagnoseSchema(v Vitals) []Finding {
	findings := []Finding{
		pick("schema", !v.Usable, Fault, "schema pgq has version "+v.Version, "schema pgq is missing, or has version "+cmp.Or(v.Version, "none")+
			", which skyd does not know", "skyd schema install --db DSN"),
	}
	if !v.Usable {
		return findings
	}
	return append(findings,
		pick("rights", !v.CanTick, Fault, "role "+v.User+" may tick and maintain", "role "+v.User+" may not run pgq.ticker and maintenance",
			"grant pgq_admin to "+v.User),
		pick("definers", len(v.Unpinned) > 0, Warning, "all functions with the rights of their owner have a fixed search_path",
			fmt.Sprintf("%d function(s) run with the rights of their owner and the search_path of the caller: %s", len(v.Unpinned), few(v.Unpinned)),
			"skyd schema harden --db DSN"),
		pick("restored", len(v.FutureTicks) > 0, Fault, "ticks and transaction ids agree",
			"ticks are ahead of the transaction ids, as after a logical restore: "+few(v.FutureTicks),
			"see the part about restored databases in docs/pgq.md before anybody consumes"))
}

// few lists the first names.
func few(names []string) string {
	const most = 3
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

func diagnoseHygiene(v Vitals) []Finding {
	vacuum := v.Settings["autovacuum"] != "on" || v.Settings["track_counts"] != "on"
	return []Finding{
		pick("autovacuum", vacuum, Fault, "autovacuum is on", "autovacuum or track_counts is off: ticks and subscriptions bloat",
			"set both to on, and reload the server"),
		pick("prepared", v.Prepared > 0 && v.PreparedAge > time.Minute, Warning, "no prepared transaction is forgotten",
			fmt.Sprintf("%d prepared transaction(s), the oldest for %s: batches grow and vacuum stands still", v.Prepared, v.PreparedAge.Round(time.Second)),
			"select * from pg_prepared_xacts; then commit prepared or rollback prepared"),
		pick("long_transaction", v.OldestXact > 10*time.Minute, Warning, "no transaction is open for long",
			fmt.Sprintf("%s has a transaction open for %s: vacuum stands still", v.OldestXactWho, v.OldestXact.Round(time.Second)),
			"end it; idle_in_transaction_session_timeout ends such sessions by itself"),
		pick("slots", len(v.IdleSlots) > 0, Warning, "no replication slot is left behind",
			"replication slots without a receiver hold back vacuum: "+few(v.IdleSlots), "start the receiver, or select pg_drop_replication_slot(NAME)"),
		pick("idle_timeout", v.Settings["idle_in_transaction_session_timeout"] == "0", Note, "idle transactions are ended by the server",
			"idle_in_transaction_session_timeout is 0: a forgotten transaction stays open for ever",
			"alter database NAME set idle_in_transaction_session_timeout = '10min'"),
		pick("other_ticker", len(v.Tickers) > 0, Warning, "nobody else ticks", "another program ticks too: "+few(v.Tickers),
			"it does no harm; stop pgqd when skyd has taken over"),
	}
}

func diagnoseQueues(v Vitals, now time.Time) []Finding {
	var stopped, paused, blocked, silent []string
	for _, q := range v.Queues {
		switch limit := max(2*q.TickerIdlePeriod, 10*time.Minute); {
		case q.TickerPaused:
			paused = append(paused, q.Name)
		case !q.ExternalTicker && q.TickerLag > limit:
			stopped = append(stopped, q.Name)
		}
		if c := q.RotationBlocker(now, v.Consumers); c != "" {
			blocked = append(blocked, c+" on "+q.Name)
		}
	}
	for _, c := range v.Consumers {
		if c.LastSeen > 24*time.Hour && c.PendingEvents > 0 {
			silent = append(silent, c.Consumer+" on "+c.Queue)
		}
	}
	if len(v.Queues) == 0 {
		return nil
	}
	return []Finding{
		pick("ticker", len(stopped) > 0, Fault, "every queue ticks", "no tick for more than ten minutes: "+few(stopped), "skyd run --db DSN; skyd status says why not"),
		pick("paused", len(paused) > 0, Note, "no queue is paused", "paused: "+few(paused), "skyd queue resume NAME"),
		pick("rotation", len(blocked) > 0, Warning, "event tables rotate", "a consumer that is behind keeps event tables from being emptied: "+few(blocked),
			"skyd explain lag CONSUMER; one that is not needed: skyd consumer unregister"),
		pick("consumers", len(silent) > 0, Warning, "every consumer with work was seen today",
			"not seen for a day, with events waiting: "+few(silent), "start it, or skyd consumer unregister"),
	}
}

package pgq

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/skytools/skyd/internal/pgtest"
)

// bad lists the findings that are not fine.
func bad(findings []Finding) string {
	var names []string
	for _, f := range findings {
		if f.Level != Fine {
			names = append(names, f.Name+" "+string(f.Level))
		}
		if (f.Level == Fine) != (f.Remedy == "") || f.Text == "" {
			names = append(names, f.Name+" has no remedy, or one too many")
		}
	}
	return strings.Join(names, ", ")
}

// healthy are vitals without a fault.
func healthy() Vitals {
	return Vitals{
		Server: 160004, User: "u", Transport: "verified", Version: "3.5", Usable: true, CanTick: true,
		Settings: map[string]string{
			"autovacuum": "on", "track_counts": "on", "default_transaction_isolation": "read committed", "default_transaction_read_only": "off",
			"idle_in_transaction_session_timeout": "1", "track_commit_timestamp": "off", "fsync": "on", "full_page_writes": "on",
		},
		Queues: []QueueInfo{{Name: "q", TickerIdlePeriod: time.Minute, RotationPeriod: time.Hour, SwitchTime: time.Now()}},
	}
}

func TestDiagnose_NamesEachFaultAndItsRemedy(t *testing.T) {
	t.Parallel()
	if got := bad(Diagnose(healthy(), time.Now())); got != "" {
		t.Errorf("healthy: got %s", got)
	}
	for want, change := range map[string]func(v *Vitals){
		"server fault":             func(v *Vitals) { v.Server = 130010 },
		"primary note":             func(v *Vitals) { v.InRecovery = true },
		"tls warning":              func(v *Vitals) { v.Transport = "optional" },
		"":                         func(v *Vitals) { v.Transport, v.Local = "plain", true },
		"clock warning":            func(v *Vitals) { v.ClockOff = -time.Hour },
		"isolation fault":          func(v *Vitals) { v.Settings["default_transaction_isolation"] = "serializable" },
		"read_only fault":          func(v *Vitals) { v.Settings["default_transaction_read_only"] = "on" },
		"durable fault":            func(v *Vitals) { v.Settings["fsync"] = "off" },
		"schema fault":             func(v *Vitals) { v.Version, v.Usable = "", false },
		"rights fault":             func(v *Vitals) { v.CanTick = false },
		"definers warning":         func(v *Vitals) { v.Unpinned = []string{"a", "b", "c", "d"} },
		"restored fault":           func(v *Vitals) { v.FutureTicks = []string{"q"} },
		"autovacuum fault":         func(v *Vitals) { v.Settings["track_counts"] = "off" },
		"prepared warning":         func(v *Vitals) { v.Prepared, v.PreparedAge = 1, time.Hour },
		"long_transaction warning": func(v *Vitals) { v.OldestXact = time.Hour },
		"slots warning":            func(v *Vitals) { v.IdleSlots = []string{"s"} },
		"idle_timeout note":        func(v *Vitals) { v.Settings["idle_in_transaction_session_timeout"] = "0" },
		"other_ticker warning":     func(v *Vitals) { v.Tickers = []string{"pgqd"} },
		"ticker fault":             func(v *Vitals) { v.Queues[0].TickerLag = time.Hour },
		"paused note":              func(v *Vitals) { v.Queues[0].TickerPaused, v.Queues[0].TickerLag = true, time.Hour },
		"rotation warning": func(v *Vitals) {
			v.Queues[0].SwitchTime = time.Now().Add(-5 * time.Hour)
			v.Consumers = []ConsumerInfo{{Queue: "q", Consumer: "c", Lag: 6 * time.Hour}}
		},
		"consumers warning": func(v *Vitals) {
			v.Consumers = []ConsumerInfo{{Queue: "q", Consumer: "c", LastSeen: 48 * time.Hour, PendingEvents: 1}}
		},
	} {
		v := healthy()
		change(&v)
		if got := bad(Diagnose(v, time.Now())); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestExamine_ARealDatabase(t *testing.T) {
	t.Parallel()
	d := pgtest.DB(t)
	db, err := Open(t.Context(), d.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := CreateQueue(t.Context(), db, "q"); err != nil {
		t.Fatal(err)
	}
	v, err := Examine(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if v.Server < 140000 || v.User == "" || !v.Usable || !v.CanTick || len(v.Unpinned) > 0 || len(v.Queues) != 1 ||
		len(v.Settings) != len(vitalSettings) || v.ClockOff.Abs() > time.Minute || len(v.FutureTicks) > 0 {
		t.Errorf("got %+v", v)
	}
	// a server that somebody points the tests at may be anywhere
	if os.Getenv("SKYD_TEST_DSN") == "" && !v.Local {
		t.Error("the server is not local")
	}
	if problems, err := Problems(t.Context(), db); err != nil || len(problems) > 0 {
		t.Errorf("got %+v, %v", problems, err)
	}
	const broken = `drop sequence pgq.event_1_id_seq cascade`
	if _, err := db.Exec(t.Context(), broken); err != nil {
		t.Fatal(err)
	}
	if problems, err := Problems(t.Context(), db); err != nil || len(problems) == 0 || problems[0].Level != Fault || problems[0].Remedy == "" {
		t.Errorf("a broken queue: got %+v, %v", problems, err)
	}
	weak, err := Open(t.Context(), d.DSNAs(d.Role(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer weak.Close()
	if v, err = Examine(t.Context(), weak); err != nil || v.CanTick {
		t.Errorf("without rights: got %+v, %v", v, err)
	}
	empty, err := Open(t.Context(), pgtest.Empty(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer empty.Close()
	if v, err = Examine(t.Context(), empty); err != nil || v.Usable || !strings.Contains(bad(Diagnose(v, time.Now())), "schema fault") {
		t.Errorf("without PgQ: got %+v, %v", v, err)
	}
}

func TestTransport_FollowsSSLMode(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"host=/tmp dbname=x": "unix", "host=h dbname=x sslmode=disable": "plain", "host=h dbname=x sslmode=prefer": "optional",
		"host=h dbname=x sslmode=allow": "optional", "host=h dbname=x sslmode=require": "encrypted",
		"host=h dbname=x sslmode=verify-full": "verified", "host=a,b dbname=x sslmode=verify-full": "verified",
	} {
		db, err := Open(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		if got := db.Transport(); got != want {
			t.Errorf("%s: got %s, want %s", dsn, got, want)
		}
		db.Close()
	}
}

func TestExplainLag_FirstCauseFirst(t *testing.T) {
	t.Parallel()
	for want, f := range map[string]LagFacts{
		"":                             {},
		"ticker warning":               {Queue: QueueInfo{TickerPaused: true}},
		"ticker fault":                 {Queue: QueueInfo{TickerLag: time.Hour, NewEvents: 5}},
		"position fault":               {Consumer: ConsumerInfo{LastTick: 3}, Ticks: TickRange{First: 5}},
		"batch warning":                {Consumer: ConsumerInfo{CurrentBatch: 1, LastSeen: time.Hour}, Behind: 4},
		"backlog note":                 {Consumer: ConsumerInfo{CurrentBatch: 1, LastSeen: time.Second}, Behind: 4},
		"consumer warning":             {Consumer: ConsumerInfo{LastSeen: time.Hour}, Behind: 4},
		"member warning, backlog note": {Consumer: ConsumerInfo{LastSeen: time.Hour}, Behind: 4, Members: []SubconsumerInfo{{Batch: 1, LastSeen: time.Hour}}},
		"ticker warning, consumer warning, rotation warning": {
			Queue: QueueInfo{ExternalTicker: true, TickerLag: time.Hour}, Consumer: ConsumerInfo{LastSeen: time.Hour}, Behind: 1, Blocks: true,
		},
	} {
		if got := bad(ExplainLag(f)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	huge := LagFacts{Consumer: ConsumerInfo{CurrentBatch: 1}, Batch: hugeBatch}
	if got := ExplainLag(huge); !strings.Contains(got[0].Text, "about 100000 events") {
		t.Errorf("got %+v", got)
	}
}

func TestLoadLagFacts_CountsTheOpenBatch(t *testing.T) {
	t.Parallel()
	db, err := Open(t.Context(), pgtest.DB(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := CreateQueue(t.Context(), db, "q"); err != nil {
		t.Fatal(err)
	}
	if _, err := RegisterConsumer(t.Context(), db, "q", "c"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := InsertBatch(t.Context(), db, "q", make([]NewEvent, 7)); err != nil {
			t.Fatal(err)
		}
		if _, err := ForceTick(t.Context(), db, "q"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Tick(t.Context(), db, "q"); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := NextBatch(t.Context(), db, "q", "c"); err != nil || b == nil {
		t.Fatal(b, err)
	}
	f, err := LoadLagFacts(t.Context(), db, "q", "c")
	if err != nil || f.Behind != 2 || f.Batch < 7 || f.Consumer.CurrentBatch == 0 || f.Now.IsZero() {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := LoadLagFacts(t.Context(), db, "q", "nobody"); err == nil {
		t.Error("nobody has lag")
	}
}

// What the DSN omits comes from the environment, as with libpq.
func TestOpen_TakesTheLibpqEnvironment(t *testing.T) {
	dir := t.TempDir()
	passfile, service := dir+"/pass", dir+"/service"
	for name, text := range map[string]string{
		passfile: "envhost:5444:*:envuser:frompassfile\n", service: "[here]\nhost=servicehost\ndbname=servicedb\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{
		"PGHOST": "envhost", "PGPORT": "5444", "PGDATABASE": "envdb", "PGUSER": "envuser", "PGPASSFILE": passfile, "PGSERVICEFILE": service,
		"PGSSLMODE": "disable", "PGAPPNAME": "envapp", "PGCONNECT_TIMEOUT": "7", "PGTARGETSESSIONATTRS": "read-write", "PGOPTIONS": "-c geqo=off",
	} {
		t.Setenv(name, value)
	}
	db, err := Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := db.Config().ConnConfig
	if c.Host != "envhost" || c.Port != 5444 || c.Database != "envdb" || c.User != "envuser" || c.Password != "frompassfile" || c.TLSConfig != nil ||
		c.RuntimeParams["application_name"] != "envapp" || c.ConnectTimeout != 7*time.Second || c.ValidateConnect == nil ||
		c.RuntimeParams["options"] != "-c geqo=off" {
		t.Errorf("got %s:%d %s %s %q %v %v %s", c.Host, c.Port, c.Database, c.User, c.Password, c.TLSConfig, c.RuntimeParams, c.ConnectTimeout)
	}
	t.Setenv("PGPASSWORD", "fromenv")
	t.Setenv("PGSERVICE", "here")
	other, err := Open(t.Context(), "user=mine")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if c := other.Config().ConnConfig; c.User != "mine" || c.Password != "fromenv" || c.Host != "servicehost" || c.Database != "servicedb" {
		t.Errorf("with a service: got %s %s %s %s", c.User, c.Password, c.Host, c.Database)
	}
}

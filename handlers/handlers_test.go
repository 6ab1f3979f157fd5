package handlers_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/handlers"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/pgq"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// queue is a database with a queue q and a registered consumer c.
func queue(t *testing.T) *pgq.DB {
	t.Helper()
	db, err := pgq.Open(t.Context(), pgtest.DB(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	exec(t, db, `select pgq.create_queue('q'), pgq.set_queue_config('q', 'ticker_max_lag', '0')`)
	exec(t, db, `select pgq.register_consumer('q', 'c')`)
	return db
}

func exec(t *testing.T, db *pgq.DB, sql string, args ...any) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// list runs a query for one text column.
func list(t *testing.T, db *pgq.DB, sql string) []string {
	t.Helper()
	rows, _ := db.Query(t.Context(), sql)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}

// insert makes events and a tick.
func insert(t *testing.T, db *pgq.DB, events ...pgq.NewEvent) (ids []int64) {
	t.Helper()
	ids, err := pgq.InsertBatch(t.Context(), db, "q", events)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, `select pgq.ticker('q')`)
	return ids
}

func event(kind, data string) pgq.NewEvent {
	return pgq.NewEvent{Type: pgq.Str(kind), Data: pgq.Str(data), Extra1: pgq.Str("x " + kind)}
}

// consume runs a handler until done says so.
func consume(t *testing.T, db *pgq.DB, h *handlers.Handler, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	c := pgq.NewConsumer(db, "q", "c", h.Handler, pgq.ConsumerOptions{
		PollInterval: 10 * time.Millisecond, BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond,
	})
	go func() { result <- c.Run(ctx) }()
	pgtest.Eventually(t, 30*time.Second, "the handler has done its work", done)
	cancel()
	if err := <-result; err != nil {
		t.Errorf("run: %v", err)
	}
}

func finished(t *testing.T, db *pgq.DB) func() bool {
	return func() bool {
		return len(list(t, db, `select '' from pgq.get_consumer_info('q', 'c') c join pgq.get_queue_info('q') q on true
			where c.last_tick = q.last_tick_id and c.current_batch is null`)) == 1
	}
}

func build(t *testing.T, env handlers.Env, change func(*handlers.Config)) *handlers.Handler {
	t.Helper()
	c := handlers.DefaultConfig()
	change(&c)
	env.Queue, env.Consumer = "q", "c"
	h, err := handlers.New(c, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestStdout(t *testing.T) {
	t.Parallel()
	db := queue(t)
	var out bytes.Buffer
	insert(t, db, event("a", "1"), pgq.NewEvent{Type: pgq.Str("")})
	consume(t, db, build(t, handlers.Env{Stdout: &out}, func(c *handlers.Config) { c.Kind = "stdout" }), finished(t, db))
	var got []map[string]any
	for d := json.NewDecoder(&out); d.More(); {
		var doc map[string]any
		if err := d.Decode(&doc); err != nil {
			t.Fatal(err)
		}
		got = append(got, doc)
	}
	if len(got) != 2 || got[0]["ev_data"] != "1" || got[0]["ev_extra1"] != "x a" || got[1]["ev_type"] != "" || got[1]["ev_data"] != nil {
		t.Errorf("got %v", got)
	}
}

func TestSQL_CommitsWithTheBatch(t *testing.T) {
	t.Parallel()
	db := queue(t)
	exec(t, db, `create table public.seen (id int8, kind text, data jsonb, at timestamptz, batch int8, who text)`)
	var events []pgq.NewEvent
	for i := range 450 {
		events = append(events, event("k", fmt.Sprintf(`{"n":%d}`, i)))
	}
	insert(t, db, events...)
	consume(t, db, build(t, handlers.Env{}, func(c *handlers.Config) {
		c.Kind = "sql"
		c.Statement = `insert into public.seen values (:ev_id, :ev_type, :ev_data::jsonb, :ev_time, :batch_id, :queue || '/' || :consumer)`
	}), finished(t, db))
	got := list(t, db, `select count(*) || ' ' || count(distinct id) || ' ' || max((data->>'n')::int4) || ' ' || min(who) from public.seen`)
	if got[0] != "450 450 449 q/c" {
		t.Errorf("got %s", got[0])
	}

	// One bad event: nothing of its batch stays, and the error names it.
	var log bytes.Buffer
	ids := insert(t, db, event("k", `{}`), event("k", `broken`))
	ctx, cancel := context.WithCancel(t.Context())
	h := build(t, handlers.Env{}, func(c *handlers.Config) {
		c.Kind, c.Statement = "sql", `insert into public.seen (id, data) values (:ev_id, :ev_data::jsonb)`
	})
	lines := make(chan string, 100)
	c := pgq.NewConsumer(db, "q", "c", h.Handler, pgq.ConsumerOptions{BackoffMin: time.Millisecond, Logger: slog.New(slog.NewTextHandler(lineWriter(lines), nil))})
	result := make(chan error, 1)
	go func() { result <- c.Run(ctx) }()
	log.WriteString(<-lines)
	cancel()
	if err := <-result; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), fmt.Sprint("statement for event ", ids[1])) {
		t.Errorf("log: %s, want the event named", log.String())
	}
	if got := list(t, db, `select count(*)::text from public.seen`); got[0] != "450" {
		t.Errorf("%s rows, want 450: the batch was rolled back", got[0])
	}
}

// lineWriter passes lines on as long as somebody listens.
type lineWriter chan string

func (w lineWriter) Write(p []byte) (int, error) {
	select {
	case w <- string(p):
	default:
	}
	return len(p), nil
}

func TestMoverAndSplitter(t *testing.T) {
	t.Parallel()
	db := queue(t)
	for _, name := range []string{"copy", "orders", "rest"} {
		exec(t, db, `select pgq.create_queue($1)`, name)
	}
	insert(t, db, event("order", "1"), event("other", "2"), event("order", "3"))
	consume(t, db, build(t, handlers.Env{}, func(c *handlers.Config) { c.Kind, c.TargetQueue = "mover", "copy" }), finished(t, db))
	all := func(queue string) []string {
		return list(t, db, `select ev_type || ev_data || ev_extra1 from `+list(t, db, `select pgq.current_event_table('`+queue+`')`)[0]+` order by ev_id`)
	}
	if got := all("copy"); !slices.Equal(got, []string{"order1x order", "other2x other", "order3x order"}) {
		t.Errorf("moved %q", got)
	}
	insert(t, db, event("order", "4"), event("what", "5"), event("order", "6"))
	consume(t, db, build(t, handlers.Env{}, func(c *handlers.Config) {
		c.Kind, c.RouteBy, c.Routes, c.DefaultQueue = "splitter", "type", map[string]string{"order": "orders"}, "rest"
	}), finished(t, db))
	if got, rest := all("orders"), all("rest"); !slices.Equal(got, []string{"order4x order", "order6x order"}) || !slices.Equal(rest, []string{"what5x what"}) {
		t.Errorf("split into %q and %q", got, rest)
	}
}

// receiver is a webhook that checks signatures and answers what the test wants.
type receiver struct {
	mu     sync.Mutex
	ids    []string
	bodies []string
	answer func(n int) int
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	mac := hmac.New(sha256.New, []byte("key"))
	fmt.Fprintf(mac, "%s.%s.%s", req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp"), body)
	if req.Header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || req.Header.Get("X-Extra") != "yes" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids, r.bodies = append(r.ids, req.Header.Get("webhook-id")), append(r.bodies, string(body))
	w.WriteHeader(r.answer(len(r.ids)))
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	for _, batch := range []bool{false, true} {
		t.Run(fmt.Sprint("batch=", batch), func(t *testing.T) {
			t.Parallel()
			db := queue(t)
			r := &receiver{answer: func(n int) int { return []int{503, 429, 200}[min(n-1, 2)] }}
			server := httptest.NewServer(r)
			t.Cleanup(server.Close)
			secret := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte("whsec_"+base64.StdEncoding.EncodeToString([]byte("key"))+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			ids := insert(t, db, event("a", "1"), event("b", "2"))
			consume(t, db, build(t, handlers.Env{}, func(c *handlers.Config) {
				c.Kind, c.URL, c.SecretFile, c.Batch = "http", server.URL, secret, batch
				c.Headers = map[string]string{"X-Extra": "yes"}
			}), finished(t, db))
			r.mu.Lock()
			defer r.mu.Unlock()
			if batch {
				var docs []map[string]any
				if err := json.Unmarshal([]byte(r.bodies[2]), &docs); err != nil || len(docs) != 2 || docs[1]["ev_data"] != "2" || len(r.ids) != 3 || r.ids[0] != r.ids[2] {
					t.Errorf("got %q %q", r.ids, r.bodies)
				}
				return
			}
			first := fmt.Sprint("q/c/", ids[0])
			if want := []string{first, first, first, fmt.Sprint("q/c/", ids[1])}; !slices.Equal(r.ids, want) {
				t.Errorf("deliveries %q, want %q", r.ids, want)
			}
		})
	}
}

// A refusal is not tried again within the request, and fails the batch.
func TestHTTP_Refused(t *testing.T) {
	t.Parallel()
	db := queue(t)
	r := &receiver{answer: func(n int) int { return []int{422, 200}[min(n-1, 1)] }}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	insert(t, db, event("a", "1"))
	consume(t, db, build(t, handlers.Env{}, func(c *handlers.Config) {
		c.Kind, c.URL, c.Secret, c.Attempts, c.Headers = "http", server.URL, "key", 1000, map[string]string{"X-Extra": "yes"}
	}), finished(t, db))
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ids) != 2 {
		t.Errorf("%d deliveries, want one for each delivery of the batch", len(r.ids))
	}
}

// script is a program for kind exec.
func script(t *testing.T, text string) []string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "child")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return []string{"/bin/sh", path, t.TempDir()}
}

const faithful = `
while read -r line; do
    case $line in
    '{"end_of_batch":'*) id=${line#*:}; id=${id%%,*}; echo "{\"done\":$id}" ;;
    *) printf '%s\n' "$line" >> "$1/seen"; [ -e "$1/started" ] || { echo $$ > "$1/started"; echo hello >&2; } ;;
    esac
done`

func TestExec(t *testing.T) {
	t.Parallel()
	db := queue(t)
	command := script(t, faithful)
	lines := make(chan string, 100)
	h := build(t, handlers.Env{Log: slog.New(slog.NewTextHandler(lineWriter(lines), nil))}, func(c *handlers.Config) {
		c.Kind, c.Command = "exec", command
	})
	insert(t, db, event("a", "1"), event("b", "line\nbreak"))
	consume(t, db, h, finished(t, db))
	insert(t, db, event("c", "3"))
	consume(t, db, h, finished(t, db))
	seen, err := os.ReadFile(command[2] + "/seen")
	if err != nil || strings.Count(string(seen), "\n") != 3 {
		t.Errorf("the child saw %s, %v", seen, err)
	}
	if line := <-lines; !strings.Contains(line, "hello") {
		t.Errorf("log %s, want what the child said", line)
	}
}

// Whatever a child does wrong, the batch comes again and a well child gets it.
func TestExec_BadChildren(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{
		"dies":     `read -r line; exit 3`,
		"nonsense": `read -r line; echo hello; cat > /dev/null`,
		"deaf":     `sleep 1000`,
		"hangs":    `cat > /dev/null; sleep 1000 & wait`,
		"refuses":  `while read -r line; do case $line in '{"end_of_batch":'*) id=${line#*:}; echo "{\"failed\":${id%%,*},\"reason\":\"no\"}"; exec sh "$0" "$1";; esac; done`,
		"wrong id": `read -r line; echo '{"done":999999}'; cat > /dev/null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := queue(t)
			command := script(t, `if [ ! -e "$1/first" ]; then : > "$1/first"; `+first+"\nfi\n"+faithful)
			h := build(t, handlers.Env{}, func(c *handlers.Config) {
				c.Kind, c.Command, c.Timeout = "exec", command, 2*time.Second
			})
			big := strings.Repeat("x", 100_000) // does not fit into a pipe
			insert(t, db, event("a", big), event("b", "2"))
			consume(t, db, h, finished(t, db))
			seen, err := os.ReadFile(command[2] + "/seen")
			if err != nil || strings.Count(string(seen), "\n") != 2 {
				t.Errorf("the well child saw %d lines, %v, want 2", strings.Count(string(seen), "\n"), err)
			}
		})
	}
}

func TestExec_Retry(t *testing.T) {
	t.Parallel()
	db := queue(t)
	command := script(t, `
while read -r line; do
    case $line in
    '{"end_of_batch":'*) id=${line#*:}; id=${id%%,*}; echo "{\"done\":$id}" ;;
    *'"ev_type":"bad"'*) id=${line#*'"ev_id":'}; id=${id%%,*}; echo "{\"retry\":$id,\"after_seconds\":3600}" ;;
    esac
done`)
	insert(t, db, event("good", "1"), event("bad", "2"))
	consume(t, db, build(t, handlers.Env{}, func(c *handlers.Config) { c.Kind, c.Command = "exec", command }), finished(t, db))
	if got := list(t, db, `select ev_data from pgq.retry_queue`); !slices.Equal(got, []string{"2"}) {
		t.Errorf("waiting for retry: %q, want the bad one", got)
	}
}

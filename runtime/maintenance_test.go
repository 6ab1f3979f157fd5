package runtime

import (
	"fmt"
	"strings"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgqsql"
)

// onBothHosts runs a test on skyd's pgq and beside the C extension.
func onBothHosts(t *testing.T, test func(t *testing.T, db *pgtest.Database)) {
	t.Parallel()
	t.Run("skyd", func(t *testing.T) { t.Parallel(); test(t, pgtest.DB(t)) })
	t.Run("extension", func(t *testing.T) {
		t.Parallel()
		db := pgtest.Extension(t)
		if _, err := pgqsql.Install(t.Context(), db.Conn(t), pgqsql.Options{}); err != nil {
			t.Fatal(err)
		}
		test(t, db)
	})
}

// consumer is what the daemon says of one consumer of queue q.
func (r *running) consumer(name string) messages.ConsumerStatus {
	for _, c := range r.status().Consumers {
		if c.Queue == "q" && c.Consumer == name {
			return c
		}
	}
	return messages.ConsumerStatus{}
}

func TestDaemon_NamesTheWriterThatHoldsRotation(t *testing.T) {
	onBothHosts(t, func(t *testing.T, db *pgtest.Database) {
		c, writer := db.Conn(t), db.Conn(t)
		newQueue(t, c, "q")
		exec(t, c, `select pgq.register_consumer('q', 'c')`)
		r := run(t, nil, database("main", db.DSN))
		consume := func() {
			if batch := value[*int64](t, c, `select pgq.next_batch('q', 'c')`); batch != nil {
				exec(t, c, `select pgq.finish_batch($1)`, *batch)
			}
		}
		ticksOn(t, c, "q")
		consume()
		exec(t, writer, `begin`)
		exec(t, writer, `select pg_current_xact_id()`)
		exec(t, c, `select pgq.set_queue_config('q', 'rotation_period', '1 ms')`)
		pgtest.Eventually(t, slow, "the open transaction is named", func() bool {
			consume()
			exec(t, c, `select pgq.insert_event('q', 't', 'd')`)
			q := r.queue("main", "q")
			return q.RotationBlocked && strings.Contains(q.RotationBlocker, "open transaction") && q.HolderConsumer == "" && q.EventBytes > 0
		})
		exec(t, writer, `commit`)
		pgtest.Eventually(t, slow, "the consumer is seen", func() bool {
			got := r.consumer("c")
			return got.Registered && got.LagSeconds > 0
		})
	})
}

func TestDaemon_KeepsToLimitsAndMaxRetries(t *testing.T) {
	onBothHosts(t, func(t *testing.T, db *pgtest.Database) {
		c := db.Conn(t)
		newQueue(t, c, "q")
		exec(t, c, `select pgq.register_consumer('q', 'late')`)
		exec(t, c, `select pgq.register_consumer('q', 'poisoned')`)
		exec(t, c, `select pgq.set_queue_options('q', '{"max_retries": 2}')`)
		exec(t, c, `select pgq.set_consumer_limit('q', 'late', 'detach', null, 1, null)`)
		// as an old client does it
		exec(t, c, `select pgq.event_retry_raw('q', 'poisoned', now(), null, now(), 3, 't', 'poison', null, null, null, null)`)
		exec(t, c, `select pgq.event_retry_raw('q', 'poisoned', now() + interval '1 hour', null, now(), 2, 't', 'once more', null, null, null, null)`)
		r := run(t, nil, database("main", db.DSN))
		pgtest.Eventually(t, slow, "what was redelivered too often is dead", func() bool {
			q, p := r.queue("main", "q"), r.consumer("poisoned")
			return q.DeadEvents == 1 && q.RetryEvents == 1 && p.DeadEvents == 1 && p.RetryEvents == 1
		})
		pgtest.Eventually(t, slow, "the late consumer is detached", func() bool {
			exec(t, c, `select pgq.force_tick('q')`)
			got := r.consumer("late")
			return got.State == "detached" && !got.Registered && got.Note != ""
		})
		families, err := r.registry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(families)
		for _, want := range []string{"skyd_dead_events", "skyd_consumer_limited", "skyd_queue_retry_events", "skyd_consumer_lag_seconds"} {
			if !strings.Contains(text, want) {
				t.Errorf("metrics do not hold %s", want)
			}
		}
		if s := r.status(); s.Databases[0].OpsFailed != 0 {
			t.Errorf("%d operations failed: %s", s.Databases[0].OpsFailed, r.actor("database/main/maintainer").LastError)
		}
	})
}

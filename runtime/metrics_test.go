package runtime

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/internal/pgtest"
	"github.com/skytools/skyd/messages"
	"github.com/skytools/skyd/pgq"
)

// metricNames is the contract with dashboards and alert rules: name, type and labels of every metric of this daemon.
var metricNames = []string{
	"messaging_client_consumed_messages_total counter MSG",
	"messaging_client_operation_duration_seconds histogram MSG",
	"messaging_process_duration_seconds histogram MSG",
	"skyd_actor_mailbox_depth gauge kind",
	"skyd_actor_message_duration_seconds histogram kind,message",
	"skyd_actor_restarts_total counter db,kind,name",
	"skyd_actor_up gauge db,kind,name",
	"skyd_batch_duration_seconds histogram consumer,db,queue",
	"skyd_batch_events histogram consumer,db,queue",
	"skyd_batches_total counter consumer,db,queue,result",
	"skyd_build_info gauge goversion,revision,version",
	"skyd_config_last_reload_success_timestamp_seconds gauge ",
	"skyd_config_last_reload_successful gauge ",
	"skyd_consumer_batch_open_seconds gauge consumer,db,queue",
	"skyd_consumer_lag_seconds gauge consumer,db,queue",
	"skyd_consumer_last_seen_seconds gauge consumer,db,queue",
	"skyd_consumer_limited gauge consumer,db,queue,state",
	"skyd_consumer_pending_events gauge consumer,db,queue",
	"skyd_db_in_recovery gauge db",
	"skyd_db_reconnects_total counter db,reason",
	"skyd_db_up gauge db",
	"skyd_dead_events gauge consumer,db,queue",
	"skyd_deadletters_total counter kind",
	"skyd_event_latency_seconds histogram consumer,db,queue",
	"skyd_events_dead_total counter consumer,db,queue",
	"skyd_events_retried_total counter consumer,db,queue",
	"skyd_maintenance_errors_total counter db",
	"skyd_maintenance_operations_total counter db",
	"skyd_maintenance_retried_events_total counter db",
	"skyd_queue_dead_tuples gauge db,queue,table",
	"skyd_queue_events_total counter db,queue",
	"skyd_queue_events_unticked gauge db,queue",
	"skyd_queue_retry_events gauge db,queue",
	"skyd_queue_retry_oldest_seconds gauge db,queue",
	"skyd_queue_rotation_age_seconds gauge db,queue",
	"skyd_queue_rotation_blocked gauge consumer,db,queue",
	"skyd_queue_table_bytes gauge db,queue,table",
	"skyd_subconsumers gauge consumer,db,queue,state",
	"skyd_tick_duration_seconds histogram db,queue",
	"skyd_tick_errors_total counter db,queue",
	"skyd_ticker_lag_seconds gauge db,queue",
	"skyd_ticks_total counter db,queue",
	"skyd_worker_batch_open_seconds gauge consumer,db,queue",
	"skyd_worker_events_total counter consumer,db,queue",
	"skyd_worker_failures gauge consumer,db,queue",
	"skyd_worker_handlers_leaked gauge consumer,db,queue",
}

// rare are the metrics that appear only after a fault.
var rare = []string{"skyd_db_reconnects_total", "skyd_deadletters_total", "skyd_queue_rotation_blocked", "skyd_consumer_limited"}

func TestMetrics_NamesTypesAndLabelsAreTheContract(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t)
	c := db.Conn(t)
	newQueue(t, c, "q")
	exec(t, c, `select pgq_coop.register_subconsumer('q', 'c', 'member')`)
	handler := pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
		switch ev.Type.String {
		case "retry":
			return pgq.RetryAfter(time.Hour, errors.New("not now"))
		case "dead":
			return pgq.GiveUp(errors.New("never"))
		}
		return nil
	})
	r := runOptions(t, consumersConfig(t, []configs.Database{database("main", db.DSN)}), Options{Consumers: []Consumer{{
		Config: consumer("worker", func(*configs.Consumer) {}), Handler: func(int) pgq.Handler { return handler },
	}}})
	registered(t, c, "worker")
	exec(t, c, `select pgq.insert_event('q', kind, '') from unnest(array['fine', 'retry', 'retry', 'dead']) kind`)
	ticksOn(t, c, "q")
	pgtest.Eventually(t, slow, "events are counted by what became of them", func() bool {
		u, _ := r.workerOf("worker")
		return u.Events >= 4 && u.Retried == 2 && u.Dead == 1 && u.Latency.Count == uint64(u.Events) && u.Sizes.Count == uint64(u.Finished)
	})
	pgtest.Eventually(t, slow, "figures of tables", func() bool { return len(r.status().Tables) == 4 })
	pgtest.Eventually(t, slow, "figures", func() bool { return r.queue("main", "q").Ticks > 0 })
	r.system.Root.Send(actor.NewPID(r.root.GetAddress(), "daemon/database/gone"), messages.ReportStatus{}) // a dead letter
	pgtest.Eventually(t, slow, "the dead letter is counted", func() bool { return r.letters.snapshot()["database"] > 0 })

	families, err := r.registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "skyd_") && !strings.HasPrefix(f.GetName(), "messaging_") {
			continue
		}
		if f.GetHelp() == "" || !regexp.MustCompile(`^(skyd|messaging)_[a-z_]+$`).MatchString(f.GetName()) {
			t.Errorf("%s: %q", f.GetName(), f.GetHelp())
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		kind := strings.ToLower(f.GetType().String())
		if (kind == "counter") != strings.HasSuffix(f.GetName(), "_total") {
			t.Errorf("%s is a %s", f.GetName(), kind)
		}
		text := strings.Join(labels, ",")
		if text == "messaging_consumer_group_name,messaging_destination_name,messaging_operation_name,messaging_operation_type,messaging_system" {
			text = "MSG"
		}
		got = append(got, f.GetName()+" "+kind+" "+text)
	}
	for _, line := range got {
		if !slices.Contains(metricNames, line) {
			t.Errorf("not in the contract: %s", line)
		}
	}
	for _, line := range metricNames {
		name, _, _ := strings.Cut(line, " ")
		if !slices.Contains(got, line) && !slices.Contains(rare, name) {
			t.Errorf("missing: %s", line)
		}
	}
	if !slices.Contains(got, "skyd_deadletters_total counter kind") {
		t.Error("the dead letter is not in the metrics")
	}
}

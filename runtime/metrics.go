package runtime

import (
	"context"
	goruntime "runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/skytools/skyd/messages"
)

// registry makes the Prometheus registry of the daemon.
func (d *Daemon) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{d: d})
	return r
}

// collector turns the status snapshot into metrics: nothing is kept twice, scraping runs no SQL, and the labels of what
// is gone are gone.
type collector struct{ d *Daemon }

// desc is a short prometheus.NewDesc.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// metricSet holds the descriptions of all metrics.
type metricSet struct {
	build, dbUp, dbRecovery, dbReconnects, actorUp, restarts, letters *prometheus.Desc
	ticks, tickErrors, tickDuration, lag, events, unticked            *prometheus.Desc
	rotationAge, rotationBlocked, ops, opErrors, retried              *prometheus.Desc
}

func metrics() metricSet {
	return metricSet{
		build:        desc("skyd_build_info", "Always 1; the labels name the program.", "version", "revision", "goversion"),
		dbUp:         desc("skyd_db_up", "Whether the database is served: reachable, primary, with PgQ.", "db"),
		dbRecovery:   desc("skyd_db_in_recovery", "Whether the server of the database is a standby.", "db"),
		dbReconnects: desc("skyd_db_reconnects_total", "How often the database came back, by the reason it was away.", "db", "reason"),
		actorUp:      desc("skyd_actor_up", "Whether the actor runs.", "kind", "db", "name"),
		restarts:     desc("skyd_actor_restarts_total", "How often the actor failed and was brought back.", "kind", "db", "name"),
		letters:      desc("skyd_deadletters_total", "Messages to actors that were gone, by the kind of the actor.", "kind"),
		ticks:        desc("skyd_ticks_total", "Ticks made by this daemon.", "db", "queue"),
		tickErrors:   desc("skyd_tick_errors_total", "Ticks that failed.", "db", "queue"),
		tickDuration: desc("skyd_tick_duration_seconds", "Time to make a tick.", "db", "queue"),
		lag: desc("skyd_ticker_lag_seconds", "Age of the newest tick; while nothing can be waiting for a tick, the time "+
			"since the ticker made sure of that.", "db", "queue"),
		events:          desc("skyd_queue_events_total", "Event ids taken since the queue exists, also by events that were rolled back.", "db", "queue"),
		unticked:        desc("skyd_queue_events_unticked", "Event ids taken since the newest tick.", "db", "queue"),
		rotationAge:     desc("skyd_queue_rotation_age_seconds", "Time since the event tables were rotated, as of the last maintenance.", "db", "queue"),
		rotationBlocked: desc("skyd_queue_rotation_blocked", "1 while this consumer keeps the queue from rotating.", "db", "queue", "consumer"),
		ops:             desc("skyd_maintenance_operations_total", "Maintenance operations run.", "db"),
		opErrors:        desc("skyd_maintenance_errors_total", "Maintenance operations that failed.", "db"),
		retried:         desc("skyd_maintenance_retried_events_total", "Events moved from the retry queue back into their queue.", "db"),
	}
}

// Describe implements prometheus.Collector. It sends nothing: which metrics there are depends on the queues.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	m := metrics()
	emit := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, valid(labels)...)
	}
	build := c.d.opts.Build
	emit(m.build, prometheus.GaugeValue, 1, build.Version, build.Revision, goruntime.Version())
	for kind, n := range c.d.letters.snapshot() {
		emit(m.letters, prometheus.CounterValue, float64(n), kind)
	}
	ctx, cancel := context.WithTimeout(c.d.context, askTime)
	defer cancel()
	s, err := c.d.Status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.actorUp, err)
		return
	}
	collectTree(m, s, emit)
	for _, q := range s.Queues {
		collectQueue(m, q, emit)
		ch <- prometheus.MustNewConstHistogram(m.tickDuration, q.TickDuration.Count, q.TickDuration.Sum, buckets(q.TickDuration),
			valid([]string{q.Database, q.Queue})...)
	}
}

// valid makes labels that Prometheus takes: names from a database in SQL_ASCII may be any bytes, and a metric that is
// refused would be a panic.
func valid(labels []string) []string {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	return labels
}

// emitter sends one metric.
type emitter func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string)

// collectTree sends the metrics of actors and databases.
func collectTree(m metricSet, s Status, emit emitter) {
	for _, a := range s.Actors {
		emit(m.actorUp, prometheus.GaugeValue, number(a.State == messages.Running), a.Kind, a.Database, a.Path)
		emit(m.restarts, prometheus.CounterValue, float64(a.Restarts), a.Kind, a.Database, a.Path)
	}
	for _, d := range s.Databases {
		emit(m.dbUp, prometheus.GaugeValue, number(d.Up), d.Name)
		emit(m.dbRecovery, prometheus.GaugeValue, number(d.InRecovery), d.Name)
		for reason, n := range d.Reconnects {
			emit(m.dbReconnects, prometheus.CounterValue, float64(n), d.Name, reason)
		}
		emit(m.ops, prometheus.CounterValue, float64(d.Operations), d.Name)
		emit(m.opErrors, prometheus.CounterValue, float64(d.OpsFailed), d.Name)
		emit(m.retried, prometheus.CounterValue, float64(d.Retried), d.Name)
	}
}

// collectQueue sends the metrics of one queue, but the histogram. A queue that we do not tick has no lag of ours.
func collectQueue(m metricSet, q messages.QueueStatus, emit emitter) {
	emit(m.ticks, prometheus.CounterValue, float64(q.Ticks), q.Database, q.Queue)
	emit(m.tickErrors, prometheus.CounterValue, float64(q.TickErrors), q.Database, q.Queue)
	if !q.Paused && !q.External {
		emit(m.lag, prometheus.GaugeValue, q.LagSeconds, q.Database, q.Queue)
	}
	emit(m.events, prometheus.CounterValue, float64(q.EventSeq), q.Database, q.Queue)
	emit(m.unticked, prometheus.GaugeValue, float64(q.Unticked), q.Database, q.Queue)
	emit(m.rotationAge, prometheus.GaugeValue, q.RotationAge, q.Database, q.Queue)
	if q.RotationBlocker != "" {
		emit(m.rotationBlocked, prometheus.GaugeValue, 1, q.Database, q.Queue, q.RotationBlocker)
	}
}

// buckets makes the cumulative buckets that Prometheus wants.
func buckets(h messages.Histogram) map[float64]uint64 {
	out := make(map[float64]uint64, len(messages.TickBounds))
	var sum uint64
	for i, bound := range messages.TickBounds {
		sum += h.Counts[i]
		out[bound] = sum
	}
	return out
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

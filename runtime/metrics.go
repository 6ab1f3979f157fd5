package runtime

import (
	"context"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/skytools/skyd/actors"
	"github.com/skytools/skyd/messages"
)

// registry makes what /metrics shows: the state of the actors, and the instruments of the messaging conventions.
func (d *Daemon) registry() prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{d: d})
	if d.telemetry.prometheus == nil {
		return r
	}
	return prometheus.Gatherers{r, d.telemetry.prometheus}
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
	tableBytes, deadTuples, retryEvents, retryOldest, dead            *prometheus.Desc
	consumerLag, consumerSeen, consumerPending, consumerOpen          *prometheus.Desc
	members, limited                                                  *prometheus.Desc
	reloadOK, reloadTime, mailbox, messageTime                        *prometheus.Desc
}

func metrics() metricSet {
	return metricSet{
		build:        desc("skyd_build_info", "Always 1; the labels name the program.", "version", "revision", "goversion"),
		dbUp:         desc("skyd_db_up", "Whether the database is served: reachable, primary, with PgQ.", "db"),
		dbRecovery:   desc("skyd_db_in_recovery", "Whether the server of the database is a standby.", "db"),
		dbReconnects: desc("skyd_db_reconnects_total", "How often the database came back, by the reason it was away.", "db", "reason"),
		actorUp:      desc("skyd_actor_up", "Whether the actor runs.", "kind", "db", "name"),
		restarts:     desc("skyd_actor_restarts_total", "How often the actor failed and was brought back.", "kind", "db", "name"),
		reloadOK: desc("skyd_config_last_reload_successful", "Whether the configuration was right when it was read last; "+
			"if not, the one before is in force."),
		reloadTime: desc("skyd_config_last_reload_success_timestamp_seconds", "When the configuration in force was read."),
		mailbox:    desc("skyd_actor_mailbox_depth", "Messages waiting for the actors of this kind.", "kind"),
		messageTime: desc("skyd_actor_message_duration_seconds", "Time the actors of this kind took to handle a message; "+
			"long work runs beside them and is not part of it.", "kind", "message"),
		letters:      desc("skyd_deadletters_total", "Messages to actors that were gone, by the kind of the actor.", "kind"),
		ticks:        desc("skyd_ticks_total", "Ticks made by this daemon.", "db", "queue"),
		tickErrors:   desc("skyd_tick_errors_total", "Ticks that failed.", "db", "queue"),
		tickDuration: desc("skyd_tick_duration_seconds", "Time to make a tick.", "db", "queue"),
		lag: desc("skyd_ticker_lag_seconds", "Age of the newest tick; while nothing can be waiting for a tick, the time "+
			"since the ticker made sure of that.", "db", "queue"),
		events:      desc("skyd_queue_events_total", "Event ids taken since the queue exists, also by events that were rolled back.", "db", "queue"),
		unticked:    desc("skyd_queue_events_unticked", "Event ids taken since the newest tick.", "db", "queue"),
		rotationAge: desc("skyd_queue_rotation_age_seconds", "Time since the event tables were rotated, as of the last maintenance.", "db", "queue"),
		rotationBlocked: desc("skyd_queue_rotation_blocked", "1 while a rotation is due and kept from happening, by this consumer "+
			"or, where the label is empty, by somebody else: see skyd status.", "db", "queue", "consumer"),
		tableBytes: desc("skyd_queue_table_bytes", "Size of the tables with their indexes, as of the last maintenance; the label queue "+
			"is empty for tables that all queues share.", "db", "queue", "table"),
		deadTuples: desc("skyd_queue_dead_tuples", "Dead rows of the tables by the server's statistics, as of the last maintenance; the "+
			"label queue is empty for tables that all queues share.", "db", "queue", "table"),
		retryEvents:     desc("skyd_queue_retry_events", "Events that wait in the retry queue, as of the last maintenance.", "db", "queue"),
		retryOldest:     desc("skyd_queue_retry_oldest_seconds", "Age of the oldest event in the retry queue, as of the last maintenance.", "db", "queue"),
		dead:            desc("skyd_dead_events", "Dead letters of the consumer, as of the last maintenance.", "db", "queue", "consumer"),
		consumerLag:     desc("skyd_consumer_lag_seconds", "Age of the last tick the consumer has finished, as of the last maintenance.", "db", "queue", "consumer"),
		consumerSeen:    desc("skyd_consumer_last_seen_seconds", "Time since the consumer opened or closed a batch, as of the last maintenance.", "db", "queue", "consumer"),
		consumerPending: desc("skyd_consumer_pending_events", "Events the consumer has before it, about, as of the last maintenance.", "db", "queue", "consumer"),
		consumerOpen:    desc("skyd_consumer_batch_open_seconds", "Age of the consumer's longest open batch, as of the last maintenance; 0 without one.", "db", "queue", "consumer"),
		members:         desc("skyd_subconsumers", "Members of a cooperative group; stale ones are counted as active or idle, too.", "db", "queue", "consumer", "state"),
		limited:         desc("skyd_consumer_limited", "1 while the consumer is warned, paused, resumed or detached by its limit.", "db", "queue", "consumer", "state"),
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
	collectMeter(m, c.d.meter, emit, ch)
	ctx, cancel := context.WithTimeout(c.d.context, askTime)
	defer cancel()
	s, err := c.d.Status(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(m.actorUp, err)
		return
	}
	emit(m.reloadOK, prometheus.GaugeValue, number(s.Config.OK))
	emit(m.reloadTime, prometheus.GaugeValue, float64(s.Config.Loaded.UnixMilli())/1000)
	collectTree(m, s, emit)
	collectConsumers(s, emit, ch)
	collectNodes(s, emit, ch)
	collectArchives(s, emit)
	for _, q := range s.Queues {
		collectQueue(m, q, emit)
		ch <- histogram(m.tickDuration, q.TickDuration, messages.TickBounds[:], q.Database, q.Queue)
	}
	for _, one := range s.Consumers {
		collectConsumer(m, one, emit)
	}
	for _, t := range s.Tables {
		if t.Kind != "event" { // whose size comes with its queue
			emit(m.tableBytes, prometheus.GaugeValue, float64(t.Bytes), t.Database, t.Queue, t.Kind)
		}
		emit(m.deadTuples, prometheus.GaugeValue, float64(t.DeadTuples), t.Database, t.Queue, t.Kind)
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

// collectMeter sends what was measured in the actors.
func collectMeter(m metricSet, meter *actors.Meter, emit emitter, ch chan<- prometheus.Metric) {
	for kind, n := range meter.Depths() {
		emit(m.mailbox, prometheus.GaugeValue, float64(n), kind)
	}
	for _, s := range meter.Spent() {
		counts, sum := make(map[float64]uint64, len(actors.MeterBounds)), uint64(0)
		for i, bound := range actors.MeterBounds {
			sum += s.Counts[i]
			counts[bound] = sum
		}
		ch <- prometheus.MustNewConstHistogram(m.messageTime, s.Count, s.Sum, counts, s.Kind, s.Message)
	}
}

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
	if q.RotationBlocked {
		emit(m.rotationBlocked, prometheus.GaugeValue, 1, q.Database, q.Queue, q.HolderConsumer)
	}
	emit(m.tableBytes, prometheus.GaugeValue, float64(q.EventBytes), q.Database, q.Queue, "event")
	emit(m.retryEvents, prometheus.GaugeValue, float64(q.RetryEvents), q.Database, q.Queue)
	emit(m.retryOldest, prometheus.GaugeValue, q.RetryOldest, q.Database, q.Queue)
}

// collectConsumer sends the metrics of one consumer.
func collectConsumer(m metricSet, c messages.ConsumerStatus, emit emitter) {
	emit(m.dead, prometheus.GaugeValue, float64(c.DeadEvents), c.Database, c.Queue, c.Consumer)
	if c.State != "" {
		emit(m.limited, prometheus.GaugeValue, 1, c.Database, c.Queue, c.Consumer, c.State)
	}
	if !c.Registered {
		return
	}
	emit(m.consumerLag, prometheus.GaugeValue, c.LagSeconds, c.Database, c.Queue, c.Consumer)
	emit(m.consumerSeen, prometheus.GaugeValue, c.LastSeen, c.Database, c.Queue, c.Consumer)
	emit(m.consumerPending, prometheus.GaugeValue, float64(c.PendingEvents), c.Database, c.Queue, c.Consumer)
	emit(m.consumerOpen, prometheus.GaugeValue, c.BatchOpen, c.Database, c.Queue, c.Consumer)
	for state, n := range c.Members {
		emit(m.members, prometheus.GaugeValue, float64(n), c.Database, c.Queue, c.Consumer, state)
	}
}

// histogram makes a metric of a histogram with these bounds.
func histogram(d *prometheus.Desc, h messages.Histogram, bounds []float64, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(bounds))
	var sum uint64
	for i, bound := range bounds {
		sum += h.Counts[i]
		buckets[bound] = sum
	}
	return prometheus.MustNewConstHistogram(d, h.Count, h.Sum, buckets, valid(slices.Clone(labels))...)
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

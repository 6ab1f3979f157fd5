package runtime

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skytools/skyd/messages"
)

// nodeMetrics holds the descriptions of the metrics of the cascade nodes that this daemon runs.
type nodeMetrics struct {
	info, lag, markLag, paused, uptodate, batches, events, skipped, failures, failed, duration *prometheus.Desc
	switchovers, switchoverTime, switchoverState                                               *prometheus.Desc
}

func metricsOfNodes() nodeMetrics {
	return nodeMetrics{
		info: desc("skyd_node_info", "Always 1; the labels tell what the node is, by its own database.", "queue", "node", "type", "provider"),
		lag: desc("skyd_node_lag_seconds", "Age of the tick at the node's position while it has more to read, or cannot; 0 when it "+
			"has caught up, and on a root.", "queue", "node"),
		markLag: desc("skyd_node_watermark_lag_ticks", "Ticks between the lowest one that any node may still need and the newest one "+
			"of this node; 0 on a leaf.", "queue", "node"),
		paused:   desc("skyd_node_paused", "1 while the node's worker is paused.", "queue", "node"),
		uptodate: desc("skyd_node_uptodate", "1 when the worker has seen the last change of its flags or provider.", "queue", "node"),
		batches:  desc("skyd_node_batches_total", "Batches that the worker brought.", "queue", "node"),
		events:   desc("skyd_node_events_total", "Events of the batches that the worker brought.", "queue", "node"),
		skipped: desc("skyd_node_events_skipped_total", "Special events that were copied and could not be acted upon; the log tells why.",
			"queue", "node"),
		failures: desc("skyd_node_failures", "Failures in a row.", "queue", "node"),
		failed:   desc("skyd_node_failures_total", "Steps of the worker that failed.", "queue", "node"),
		duration: desc("skyd_node_batch_duration_seconds", "Time to bring a batch, from its first event to its tick.", "queue", "node"),
		switchovers: desc("skyd_switchovers_total", "Switchovers and failovers to nodes of this daemon, by the journals in their "+
			"databases: done, or aborted.", "queue", "result"),
		switchoverTime:  desc("skyd_switchover_duration_seconds", "Time that those took which are done.", "queue"),
		switchoverState: desc("skyd_switchover_state", "1 for the state of the switchover or failover under way.", "queue", "state"),
	}
}

// collectNodes sends the metrics of the nodes. A cascade has one node of a name, but nothing keeps two of them out of one
// daemon that serves two databases which both claim it: the first one is shown then.
func collectNodes(s Status, emit emitter, ch chan<- prometheus.Metric) {
	m := metricsOfNodes()
	shown := map[[2]string]bool{}
	for _, n := range liveNodes(s) {
		key := [2]string{n.Queue, n.Node}
		if shown[key] {
			continue
		}
		shown[key] = true
		labels := []string{n.Queue, n.Node}
		if n.Type != "" {
			emit(m.info, prometheus.GaugeValue, 1, n.Queue, n.Node, n.Type, n.Provider)
			emit(m.paused, prometheus.GaugeValue, number(n.Paused), labels...)
			emit(m.uptodate, prometheus.GaugeValue, number(n.Uptodate), labels...)
			mark := int64(0)
			if n.GlobalWatermark > 0 {
				mark = max(n.Top-n.GlobalWatermark, 0)
			}
			emit(m.markLag, prometheus.GaugeValue, float64(mark), labels...)
		}
		emit(m.lag, prometheus.GaugeValue, n.LagSeconds, labels...)
		emit(m.batches, prometheus.CounterValue, float64(n.Batches), labels...)
		emit(m.events, prometheus.CounterValue, float64(n.Events), labels...)
		emit(m.skipped, prometheus.CounterValue, float64(n.Skipped), labels...)
		emit(m.failures, prometheus.GaugeValue, float64(n.Fails), labels...)
		emit(m.failed, prometheus.CounterValue, float64(n.Failed), labels...)
		ch <- histogram(m.duration, n.Duration, messages.TickBounds[:], labels...)
	}
	m.collectSwitchovers(s, emit, ch)
}

// collectSwitchovers sends the figures of each queue: each operation is counted on one node. Of one that is open on two
// nodes here the state of the new root is shown, which is the one that decides.
func (m nodeMetrics) collectSwitchovers(s Status, emit emitter, ch chan<- prometheus.Metric) {
	queues := map[string]messages.Switchovers{}
	for _, n := range liveNodes(s) {
		q := queues[n.Queue]
		q.Done += n.Switchovers.Done
		q.Aborted += n.Switchovers.Aborted
		merge(&q.Duration, n.Switchovers.Duration)
		if n.Switchovers.State != "" && (q.State == "" || n.Type != "root") {
			q.State = n.Switchovers.State
		}
		queues[n.Queue] = q
	}
	for _, queue := range slices.Sorted(maps.Keys(queues)) {
		q := queues[queue]
		emit(m.switchovers, prometheus.CounterValue, float64(q.Done), queue, "done")
		emit(m.switchovers, prometheus.CounterValue, float64(q.Aborted), queue, "aborted")
		ch <- histogram(m.switchoverTime, q.Duration, messages.SwitchoverBounds[:], queue)
		if q.State != "" {
			emit(m.switchoverState, prometheus.GaugeValue, 1, queue, q.State)
		}
	}
}

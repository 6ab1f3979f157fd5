package messages

import "time"

// TickMade says that a queue has a new tick, so that its consumers need not wait for their next look. It may be told
// twice.
type TickMade struct {
	Queue string
	Tick  int64
}

// Batch is what there is to know about an open batch.
type Batch struct {
	ID       int64
	PrevTick int64
	Tick     int64
	TickTime time.Time
}

// ConsumerSeen tells status what one worker of a consumer did since its last ConsumerSeen.
type ConsumerSeen struct {
	Database string
	Queue    string
	Consumer string
	Member   int // 0: a consumer that is no group; else 1, 2, ...
	At       time.Time

	Open     *Batch // nil: none
	OpenedAt time.Time
	Fails    int // failures in a row

	Finished int64 // batches with events finished since the last message
	Empty    int64 // batches without events
	Failed   int64 // attempts that failed
	Lost     int64 // batches that somebody else closed or took over
	Events   int64 // events of the finished batches
	Retried  int64 // events of them sent to the retry queue
	Dead     int64 // events of them given up
	Leaked   int   // handlers that were given up and have not returned, at the moment

	Duration    Histogram // of the finished batches, in seconds, by TickBounds
	Sizes       Histogram // of the finished batches, in events, by SizeBounds
	Latency     Histogram // of their events, from ev_time to the finish in seconds, by LatencyBounds
	LastTickAge float64   // age of the newest finished tick, in seconds, when it was finished
}

// ConsumerGone removes a consumer from the figures.
type ConsumerGone struct {
	Database string
	Queue    string
	Consumer string
}

package pgq

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// Text is a text that may be null: null and empty are different in a queue.
type Text = pgtype.Text

// Str returns a Text that is not null.
func Str(s string) Text { return Text{String: s, Valid: true} }

// NewEvent is an event to insert. The zero Text is null. By convention of the
// change capture triggers Extra1 is a table name and Extra2 an old row; Extra4
// carries the trace context unless it is set.
type NewEvent struct {
	Type   Text
	Data   Text
	Extra1 Text
	Extra2 Text
	Extra3 Text
	Extra4 Text
}

// Event is one event of a batch. It may be kept after the handler returned.
type Event struct {
	// ID is the event's number in its queue. Ids have gaps and do not follow
	// commit order: never use one as a position.
	ID int64
	// Time is when the event was created, in UTC.
	Time time.Time
	// Txid is the transaction that inserted it.
	Txid int64
	// Retry counts redeliveries out of the retry queue; 0 for the first
	// delivery.
	Retry  int
	Type   Text
	Data   Text
	Extra1 Text
	Extra2 Text
	Extra3 Text
	Extra4 Text
}

// eventColumns is the row of get_batch_events and get_batch_cursor.
const eventColumns = `ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4`

// scanEvents reads rows of eventColumns to their end. The events share one
// array, of about the expected size.
func scanEvents(rows pgx.Rows, expect int) ([]Event, error) {
	defer rows.Close()
	events := make([]Event, 0, expect)
	var retry pgtype.Int4
	for rows.Next() {
		events = append(events, Event{})
		ev := &events[len(events)-1]
		err := rows.Scan(&ev.ID, &ev.Time, &ev.Txid, &retry, &ev.Type, &ev.Data,
			&ev.Extra1, &ev.Extra2, &ev.Extra3, &ev.Extra4)
		if err != nil {
			return nil, err
		}
		ev.Time, ev.Retry = ev.Time.UTC(), int(retry.Int32)
	}
	return events, rows.Err()
}

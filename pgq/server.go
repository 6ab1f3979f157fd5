package pgq

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// WriteState tells whether the server is a standby, and whether a transaction
// may not write for that or another reason, such as
// default_transaction_read_only: neither ticks nor events can be made then.
func WriteState(ctx context.Context, q Querier) (standby, readOnly bool, err error) {
	const state = `select pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only')::boolean`
	if err := q.QueryRow(ctx, state).Scan(&standby, &readOnly); err != nil {
		return false, false, fmt.Errorf("ask whether the server takes writes: %w", classify(err))
	}
	return standby, readOnly, nil
}

// Databases lists the databases of the server that a session can connect to,
// templates left out, by name.
func Databases(ctx context.Context, q Querier) ([]string, error) {
	const list = `
select datname from pg_catalog.pg_database
 where datallowconn and not datistemplate
   and pg_catalog.has_database_privilege(oid, 'connect')
 order by datname`
	rows, err := q.Query(ctx, list)
	if err == nil {
		var names []string
		if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return names, nil
		}
	}
	return nil, fmt.Errorf("list databases: %w", classify(err))
}

// RotationAge is how long the queue's current table has taken events, given
// the server's clock.
func (i QueueInfo) RotationAge(now time.Time) time.Duration { return now.Sub(i.SwitchTime) }

// RotationBlocker names the consumer that keeps the queue from rotating: it is
// furthest behind, its last finished tick is older than the last rotation, and
// the next one is due. Empty: nobody. consumers may hold those of other queues.
func (i QueueInfo) RotationBlocker(now time.Time, consumers []ConsumerInfo) string {
	age := i.RotationAge(now)
	if i.RotationPeriod <= 0 || age <= i.RotationPeriod {
		return ""
	}
	name, worst := "", age
	for _, c := range consumers {
		if c.Queue == i.Name && c.Lag >= worst {
			name, worst = c.Consumer, c.Lag
		}
	}
	return name
}

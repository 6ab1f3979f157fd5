package pgqsql

// legacy is what the installer knows of the originals of a schema: how to recognise them, and what older versions had
// that ours has not. What it does not know it leaves alone or refuses.
type legacy struct {
	// marks are columns (table.column) and functions (name(types)) that every version has; pgq has its own in the query
	// of readState.
	marks []string
	// gone are functions and types of the original that ours does not have, by name or by signature.
	gone []string
	// constraints and indexes that older versions have.
	constraints, indexes []string
	// kept are tables of older versions that ours does not use; they stay, with their rows.
	kept []string
	// fill gives a column its values before it becomes not null, by table.column.
	fill map[string]string
	// finish is run after the files.
	finish []action
}

// legacyOf knows PgQ 2.1 to 3.5, pgq_coop and pgq_node 3.x, and pgq_ext 2.1 to 3.x.
func legacyOf(schema string) legacy {
	switch schema {
	case "pgq":
		return legacy{
			gone: []string{
				"event_failed", "failed_event_list", "failed_event_count", "failed_event_delete", "failed_event_retry",
				"pgq.ticker(text,bigint)", "pgq.register_consumer(text,text,bigint)", "_grant_perms_from", "_urlencode",
				"ret_batch_event", "ret_batch_info", "ret_consumer_info", "ret_queue_info",
			},
			constraints: []string{
				"subscription.subscription_ukey", "subscription.subscription_batch_idx",
				"retry_queue.rq_owner_fkey", "failed_queue.fq_owner_fkey",
			},
			indexes: []string{"rq_retry_owner_idx"},
			kept:    []string{"failed_queue"},
			fill: map[string]string{
				"tick.tick_event_seq":  fillTickCounterSQL,
				"retry_queue.ev_queue": fillRetryQueueSQL,
			},
			finish: []action{
				{"counters of queues without events", emptyCountersSQL},
				{"defaults of the event tables", eventDefaultsSQL},
				{"rights and storage of the event tables", eventTablesSQL},
			},
		}
	case "pgq_coop":
		return legacy{marks: []string{
			"next_batch(text, text, text)", "register_subconsumer(text, text, text)", "finish_batch(bigint)",
		}}
	case "pgq_node":
		return legacy{marks: []string{"node_info.node_type", "local_state.last_tick_id", "subscriber_info.watermark_name"}}
	case "pgq_ext":
		return legacy{marks: []string{"completed_batch.last_batch_id", "completed_event.event_id"}}
	}
	return legacy{}
}

const (
	// fillRetryQueueSQL: before 3.0 the queue of a waiting event was that of its owner.
	fillRetryQueueSQL = `update pgq.retry_queue r set ev_queue = s.sub_queue
from pgq.subscription s where s.sub_id = r.ev_owner and r.ev_queue is null`

	// fillTickCounterSQL: before 3.0 ticks did not note the event counter. The highest event id of a transaction older
	// than the tick comes close, which is all that the counter promises; one pass over the events, in the order of
	// transactions.
	fillTickCounterSQL = `do $$
declare
    v_queue record;
begin
    for v_queue in
        select q.queue_id, q.queue_data_pfx, q.queue_event_seq
          from pgq.queue q
         where exists (select from pgq.tick t where t.tick_queue = q.queue_id and t.tick_event_seq is null)
    loop
        execute pg_catalog.format($sql$
            update pgq.tick t
               set tick_event_seq = c.counter
              from (
                select m.tick_id, coalesce(
                           pg_catalog.max(m.ev_id) over (order by m.txid, m.tick_id nulls first),
                           pg_catalog.min(m.ev_id) over () - 1,
                           pg_catalog.pg_sequence_last_value(%L::pg_catalog.regclass), 0) as counter
                  from (select e.ev_txid as txid, e.ev_id, null::bigint as tick_id
                          from %s e
                         where e.ev_owner is null
                        union all
                        select pg_catalog.txid_snapshot_xmax(k.tick_snapshot), null, k.tick_id
                          from pgq.tick k
                         where k.tick_queue = %s) m) c
             where t.tick_queue = %s and t.tick_id = c.tick_id and t.tick_event_seq is null$sql$,
            v_queue.queue_event_seq, v_queue.queue_data_pfx::pg_catalog.regclass, v_queue.queue_id, v_queue.queue_id);
    end loop;
end
$$`

	// emptyCountersSQL: the original counts a sequence that gave nothing yet as 1, ours as 0. A tick that noted 1 would
	// make the first event invisible to the ticker.
	emptyCountersSQL = `do $$
declare
    v_queue record;
    v_last  bigint;
begin
    for v_queue in select q.queue_id, q.queue_event_seq from pgq.queue q loop
        execute 'select s.last_value from ' || pgq.quote_fqname(v_queue.queue_event_seq) || ' s' into v_last;
        if v_last <= 1 then
            update pgq.tick t set tick_event_seq = 0
             where t.tick_queue = v_queue.queue_id and t.tick_event_seq = 1;
        end if;
    end loop;
end
$$`

	// eventDefaultsSQL: event tables made before a column's default changed have the old one.
	eventDefaultsSQL = `do $$
declare
    v_table regclass;
begin
    for v_table in
        select c.oid
          from pg_catalog.pg_class c
          join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'ev_txid'
          left join pg_catalog.pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         where c.relnamespace = 'pgq'::regnamespace and c.relkind = 'r' and c.relname ~ '^event_[0-9]+(_[0-9]+)?$'
           and pg_catalog.pg_get_expr(d.adbin, d.adrelid) is distinct from 'txid_current()'
    loop
        execute pg_catalog.format('alter table %s alter column ev_txid set default pg_catalog.txid_current()', v_table);
    end loop;
end
$$`

	// eventTablesSQL sets what create_queue sets.
	eventTablesSQL = `do $$
declare
    v_queue record;
    v_table regclass;
begin
    for v_queue in select q.queue_name, q.queue_id from pgq.queue q loop
        for v_table in
            select c.oid
              from pg_catalog.pg_class c
             where c.relnamespace = 'pgq'::regnamespace and c.relkind = 'S'
               and c.relname in ('event_' || v_queue.queue_id || '_id_seq', 'event_' || v_queue.queue_id || '_tick_seq')
        loop
            execute pg_catalog.format('revoke all on sequence %s from public, pgq_reader, pgq_writer, pgq_admin', v_table);
        end loop;
        perform pgq.tune_storage(v_queue.queue_name);
        perform pgq.grant_perms(v_queue.queue_name);
    end loop;
end
$$`
)

create or replace function pgq._check_tx_limit(i_queue_id integer, i_limit integer, i_txid bigint)
returns void as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._check_tx_limit(3)
    --
    --     Counts one event against queue_per_tx_limit. The count lives in a
    --     transaction-local setting that carries the txid, so that nothing is
    --     counted across transactions and a rolled back savepoint gives its
    --     events back.
    --
    -- Parameters:
    --     i_queue_id - queue
    --     i_limit    - most events one transaction may insert
    --     i_txid     - the current transaction
    --
    -- Returns:
    --     nothing
    --
    -- Raises:
    --     the transaction has inserted i_limit events into the queue already
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, for the name in the message
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    v_name  text := 'skyd.tx_count_' || i_queue_id;
    v_state text := current_setting(v_name, true);
    v_count integer := 0;
begin
    if split_part(v_state, ':', 1) = i_txid::text then
        v_count := split_part(v_state, ':', 2)::integer;
    end if;
    if v_count >= i_limit and i_limit >= 0 then
        raise exception 'transaction inserted % events into queue %, its limit is %',
                v_count, (select q.queue_name from pgq.queue q where q.queue_id = i_queue_id), i_limit
            using errcode = 'program_limit_exceeded',
                  hint = 'Split the transaction, or raise pgq.queue.queue_per_tx_limit.';
    end if;
    perform set_config(v_name, i_txid || ':' || (v_count + 1), true);
end;
$$ language plpgsql volatile set search_path = pg_catalog, pgq, pg_temp;

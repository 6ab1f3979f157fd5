create or replace function pgq_node.set_partition_watermark(
    i_combined_queue_name text,
    i_part_queue_name text,
    i_watermark bigint,
    out ret_code integer,
    out ret_note text)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: pgq_node.set_partition_watermark(3)
    --
    --     On a branch of a combined queue: moves the position of the leaf that
    --     reads a partition queue, because the combined queue has brought that
    --     leaf's events up to this tick.
    --
    --     Security definer: the tables of the schema are read-only for others.
    --
    -- Parameters:
    --     i_combined_queue_name - combined queue on this node
    --     i_part_queue_name - partition queue that a leaf of this node reads
    --     i_watermark - tick id
    --
    -- Returns:
    --     200 - moved
    --     201 - nothing to do: not a leaf of that combined queue, or the
    --         combined queue is no branch here
    --     401 - the leaf has no worker row
    --
    -- Raises:
    --     tick is null
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq_node.node_info
    --     update - pgq_node.local_state
    --
    -- Locks:
    --     the worker's row
    -- ----------------------------------------------------------------
declare
    v_worker text;
begin
    select p.worker_name into v_worker
      from pgq_node.node_info p
      join pgq_node.node_info c on c.queue_name = p.combined_queue
     where p.queue_name = i_part_queue_name and p.node_type = 'leaf'
       and c.queue_name = i_combined_queue_name and c.node_type = 'branch';
    if not found then
        ret_code := 201;
        ret_note := 'No leaf of ' || coalesce(i_part_queue_name, '<null>') || ' follows a branch of '
            || coalesce(i_combined_queue_name, '<null>') || ' here';
        return;
    end if;
    update pgq_node.local_state s
       set last_tick_id = i_watermark
     where s.queue_name = i_part_queue_name and s.consumer_name = v_worker;
    if not found then
        ret_code := 401;
        ret_note := 'Worker row missing: ' || i_part_queue_name || '/' || v_worker;
        return;
    end if;
    ret_code := 200;
    ret_note := 'Partition watermark of ' || i_part_queue_name || ' set to ' || i_watermark;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, pgq_node, pg_temp;

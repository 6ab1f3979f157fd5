create or replace function skyd_node.learn_term(i_queue_name text, i_term bigint, i_root_node text)
returns bigint as $$
    -- ----------------------------------------------------------------
    -- Function: skyd_node.learn_term(3)
    --
    --     Notes the term of a cascade. Terms only grow: an older one changes
    --     nothing.
    --
    --     Security definer: the table is read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_term - term
    --     i_root_node - node that became root with it
    --
    -- Returns:
    --     the newest term that is known here
    --
    -- Raises:
    --     a null where the table has none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     insert, update - skyd_node.term
    --
    -- Locks:
    --     the row of the queue
    -- ----------------------------------------------------------------
declare
    v_term bigint;
begin
    insert into skyd_node.term as t (queue_name, term, root_node)
    values (i_queue_name, i_term, i_root_node)
    on conflict (queue_name) do update
    set term = excluded.term, root_node = excluded.root_node, since = clock_timestamp()
    where t.term < excluded.term;
    select t.term into v_term from skyd_node.term t where t.queue_name = i_queue_name;
    return v_term;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd_node, pg_temp;

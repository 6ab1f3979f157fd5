create or replace function skyd_node.get_term(i_queue_name text, out term bigint, out root_node text, out since timestamptz)
returns record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd_node.get_term(1)
    --
    --     Tells the newest term of a cascade that is known here. A cascade
    --     whose root never changed by an operation with journal has term 0.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --
    -- Returns:
    --     term, the node that became root with it, and when this node learned
    --     of it
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read - skyd_node.term
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    select t.term, t.root_node, t.since into get_term.term, get_term.root_node, get_term.since
      from skyd_node.term t
     where t.queue_name = i_queue_name;
    get_term.term := coalesce(get_term.term, 0);
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd_node, pg_temp;

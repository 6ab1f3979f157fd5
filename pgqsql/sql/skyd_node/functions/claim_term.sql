create or replace function skyd_node.claim_term(i_queue_name text, i_term bigint, i_node text)
returns boolean as $$
    -- ----------------------------------------------------------------
    -- Function: skyd_node.claim_term(3)
    --
    --     Asks a member for its agreement that a node becomes root in place
    --     of a dead one. A member agrees once for each term, and not at all
    --     when it is a root that takes events: of two nodes that want the same
    --     and reach a common member, one is refused.
    --
    --     Security definer: the table is read-only for others.
    --
    -- Parameters:
    --     i_queue_name - queue name
    --     i_term - term that the node wants
    --     i_node - the node
    --
    -- Returns:
    --     true - agreed; repeatable for the same node
    --     false - refused
    --
    -- Raises:
    --     a null where the table has none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     read   - pgq.queue, pgq_node.node_info
    --     insert, update - skyd_node.term
    --
    -- Locks:
    --     the rows of the queue
    -- ----------------------------------------------------------------
begin
    perform 1
       from pgq_node.node_info n
       join pgq.queue q on q.queue_name = n.queue_name
      where n.queue_name = i_queue_name and n.node_type = 'root' and not q.queue_disable_insert and n.node_name <> i_node;
    if found then
        return false;
    end if;
    insert into skyd_node.term (queue_name, term, root_node)
    values (i_queue_name, 0, '')
    on conflict (queue_name) do nothing;
    update skyd_node.term t set claim = i_term, claim_node = i_node
     where t.queue_name = i_queue_name and t.term < i_term
       and (t.claim < i_term or t.claim = i_term and t.claim_node = i_node);
    return found;
end;
$$ language plpgsql volatile security definer set search_path = pg_catalog, skyd_node, pg_temp;

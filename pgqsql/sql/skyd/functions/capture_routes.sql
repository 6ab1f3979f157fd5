create or replace function skyd.capture_routes(out func_name text, out arguments text, out body text)
returns setof record as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.capture_routes(0)
    --
    --     The code that should lead from a capture trigger to its encoder, for
    --     each operation. A call by name (EXECUTE) costs as much as all the
    --     rest, and a function that chooses one costs a copy of the rows; this
    --     costs nothing: the server has a plan of its own for each trigger,
    --     puts the SQL function made here into it, and computes all that is
    --     constant. The type of the row is; so the call of one encoder is
    --     left, under the condition that the trigger has its name.
    --
    --     An operation has a function of its own because of an insert there is
    --     no old row. Tables are spread over 64 functions that the first one
    --     calls, so that a plan does not have to read all tables.
    --
    -- Parameters:
    --     none
    --
    -- Returns:
    --     functions of schema skyd_gen: func_name, arguments, body
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none; the code that it makes: skyd.row_type(1)
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
declare
    c_parts constant integer := 64;
    c_none  constant text := e'\n    -- written by skyd from the capture triggers, see skyd.capture_routes\n    select null::pg_catalog.bool\n';
    v_op    record;
    v_arms  text[];
    v_type  text;
begin
    for v_op in
        select o.*, 'capture_' || o.name as func
          from (values ('insert', 'i_trigger name, i_new anyelement', 'i_new'),
                       ('update', 'i_trigger name, i_new anyelement, i_old anyelement', 'i_new, i_old'),
                       ('delete', 'i_trigger name, i_old anyelement', 'i_old')) o (name, args, call)
    loop
        arguments := v_op.args;
        v_type := format('skyd.row_type(case when false then %s end)', split_part(v_op.call, ',', 1));
        select array_agg(l.arms order by l.part) into v_arms
          from (select n.part, coalesce(string_agg(
                           format(e'when %s operator(pg_catalog.=) %s and i_trigger operator(pg_catalog.=) %L::pg_catalog.name'
                                  '\n        then skyd_gen.%I(i_trigger, %s)\n    ', v_type, e.reltype, e.tgname, e.proname, v_op.call), ''
                           order by e.reltype, e.tgname) filter (where e.tgname is not null), '') as arms
                  from generate_series(0, c_parts - 1) n (part)
                  left join (
                        select c.reltype, t.tgname, p.proname
                          from pg_trigger t
                          join pg_class c on c.oid = t.tgrelid
                          join pg_proc p on p.proname = ('x' || left(v_op.name, 1) || t.tgrelid || '_' || to_hex(hashtextextended(t.tgname::text, 0)))::name
                         where p.pronamespace = 'skyd_gen'::regnamespace) e on e.reltype::bigint % c_parts = n.part
                 group by n.part) l;
        for i in 0 .. c_parts - 1 loop
            func_name := v_op.func || '_' || i;
            body := case v_arms[i + 1] when '' then c_none else replace(c_none, 'null::pg_catalog.bool', 'case ' || v_arms[i + 1] || 'end') end;
            return next;
        end loop;
        func_name := v_op.func;
        select replace(c_none, 'null::pg_catalog.bool', 'case ' || string_agg(
                   format(e'when %s::pg_catalog.int8 operator(pg_catalog.%%) %s operator(pg_catalog.=) %s then skyd_gen.%s_%3$s(i_trigger, %5$s)\n    ',
                          v_type, c_parts, n, v_op.func, v_op.call), '' order by n) || 'end')
          into body
          from generate_series(0, c_parts - 1) n;
        return next;
    end loop;
end;
$$ language plpgsql stable set search_path = pg_catalog, skyd, pg_temp;

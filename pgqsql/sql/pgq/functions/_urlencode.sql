create or replace function pgq._urlencode(i_text text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: pgq._urlencode(1)
    --
    --     Percent-encodes a text the way logutriga events carry it: letters,
    --     digits, underscore, dot and minus stay, a blank becomes a plus sign,
    --     every other byte of the UTF-8 form becomes %xx in lower case.
    --
    -- Parameters:
    --     i_text - text
    --
    -- Returns:
    --     encoded text; null for null
    --
    -- Raises:
    --     none
    --
    -- Calls:
    --     none
    --
    -- Tables:
    --     none
    --
    -- Locks:
    --     none
    -- ----------------------------------------------------------------
begin
    if i_text collate "C" !~ '[^A-Za-z0-9_.-]' then
        return i_text;
    end if;
    return (select string_agg(
                case when s.c collate "C" ~ '[A-Za-z0-9_.-]' then s.c
                     when s.c = ' ' then '+'
                     else regexp_replace(encode(convert_to(s.c, 'UTF8'), 'hex'), '(..)', '%\1', 'g')
                end, '' order by s.n)
              from regexp_split_to_table(i_text, '') with ordinality s (c, n));
end;
$$ language plpgsql immutable strict set search_path = pg_catalog, pgq, pg_temp;

create or replace function skyd.urlencode(i_text text)
returns text as $$
    -- ----------------------------------------------------------------
    -- Function: skyd.urlencode(1)
    --
    --     Percent-encodes a text the way logutriga events carry it: letters,
    --     digits, underscore, dot and minus stay, a blank becomes a plus sign,
    --     every other byte of the UTF-8 form becomes %xx in lower case.
    --
    --     Printable ASCII goes by replacing sign after sign, the usual ones
    --     first; all else character by character. Encoders look first whether
    --     there is anything to encode. All
    --     names are qualified instead of a pinned search path, which would
    --     cost more than the work itself.
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
declare
    v_text pg_catalog.text collate pg_catalog."C" := i_text;
begin
    if v_text operator(pg_catalog.~) '[^ -~]' then
        return (select pg_catalog.string_agg(
                    case when s.c collate pg_catalog."C" operator(pg_catalog.~) '[A-Za-z0-9_.-]' then s.c
                         when s.c operator(pg_catalog.=) ' ' then '+'
                         else pg_catalog.regexp_replace(pg_catalog.encode(pg_catalog.convert_to(s.c, 'UTF8'), 'hex'), '(..)', e'%\\1', 'g')
                    end, '' order by s.n)
                  from pg_catalog.unnest(pg_catalog.string_to_array(v_text, null)) with ordinality s (c, n));
    end if;
    -- the percent sign first, then the plus sign, then the blank: later ones make signs that earlier ones replace
    v_text := pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(v_text, '%', '%25'), '+', '%2b'), ' ', '+');
    v_text := pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(v_text, ',', '%2c'), ':', '%3a'), '/', '%2f'), '&', '%26'),
                              '=', '%3d'), '''', '%27');
    if v_text operator(pg_catalog.!~) '[^A-Za-z0-9_.%+-]' then
        return v_text;
    end if;
    v_text := pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(v_text, '"', '%22'), '(', '%28'), ')', '%29'), '!', '%21'),
                              '?', '%3f'), '@', '%40');
    v_text := pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(v_text, '{', '%7b'), '}', '%7d'), '[', '%5b'), ']', '%5d'),
                              ';', '%3b'), e'\\', '%5c');
    v_text := pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(v_text, '#', '%23'), '$', '%24'), '*', '%2a'), '<', '%3c'),
                              '>', '%3e'), '^', '%5e');
    return pg_catalog.replace(pg_catalog.replace(pg_catalog.replace(v_text, '`', '%60'), '|', '%7c'), '~', '%7e');
end;
$$ language plpgsql immutable strict;

-- Add a claim's requests to the day's counts, and return how much room each cap had before.
--
-- Each count is the sum of 8 rows, its shards. A claim uses a shard that no other claim holds, so claims do not
-- wait for each other's commit. Attempts that are subtracted have rows of their own (give_back_sends.sql).
--
-- The caps are exact. A claim that may come near a cap takes an exclusive advisory lock on that count: no other
-- claim can add to it, so the sum is exact. All other claims share the lock. They do not see what uncommitted
-- claims will add, which is at most 8 x 512: one claim per shard, since its row is locked, and 512 requests per
-- claim. While at least that much room is left, all of them fit. If the room has shrunk since the lock was
-- chosen, `is_uncertain` is true: nothing may be sent, and the next claim takes the exclusive lock.
--
-- The lock order prevents deadlocks: rows of give_back_sends, then these locks by key, then rows of shards by
-- key.
CREATE OR REPLACE FUNCTION count_sends(
    of_day date, scopes text[], subjects text[], numbers bigint[], caps bigint[],
    OUT shard smallint, OUT is_uncertain boolean, OUT rooms bigint[], OUT are_tight boolean
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    shards CONSTANT smallint := 8;
    most CONSTANT bigint := 512;
    unseen CONSTANT bigint := shards * most;
    alone boolean[];
    one record;
BEGIN
    shard := NULL;
    FOR place IN 0 .. shards - 1 LOOP
        shard := mod(pg_backend_pid() + place, shards);
        EXIT WHEN pg_try_advisory_xact_lock(hashtextextended('send_counts shard', shard));
    END LOOP;
    -- Twice the room that is needed, so that it is rarely too small.
    SELECT array_agg(
               (
                   w.number > most OR w.cap - w.number - 2 * unseen < (
                       SELECT coalesce(sum(c.taken), 0) FROM send_counts AS c
                       WHERE c.day = of_day AND c.scope = w.scope AND c.subject = w.subject
                   )
               ) IS TRUE
               ORDER BY w.place
           )
    INTO alone
    FROM unnest(scopes, subjects, numbers, caps) WITH ORDINALITY AS w (scope, subject, number, cap, place);
    FOR one IN
        SELECT keys.key, bool_or(keys.alone) AS alone
        FROM (
            SELECT hashtextextended(concat_ws(' ', 'send_counts', of_day, w.scope, w.subject), 0) AS key, w.alone
            FROM unnest(scopes, subjects, alone) AS w (scope, subject, alone)
        ) AS keys
        GROUP BY keys.key ORDER BY keys.key
    LOOP
        IF one.alone THEN
            PERFORM pg_advisory_xact_lock(one.key);
        ELSE
            PERFORM pg_advisory_xact_lock_shared(one.key);
        END IF;
    END LOOP;
    INSERT INTO send_counts AS c (day, scope, subject, shard, taken)
    SELECT of_day, w.scope, w.subject, count_sends.shard, w.number
    FROM unnest(scopes, subjects, numbers) AS w (scope, subject, number)
    ORDER BY w.scope, w.subject
    ON CONFLICT ON CONSTRAINT send_counts_pkey DO UPDATE SET taken = c.taken + excluded.taken;
    -- A separate statement, so that it sees what others committed before this shard's rows were locked.
    SELECT coalesce(bool_or(NOT after.alone AND after.taken + unseen > after.cap), false),
           array_agg(after.cap - after.taken + after.number ORDER BY after.place),
           coalesce(bool_or(after.taken > after.cap), false)
    INTO is_uncertain, rooms, are_tight
    FROM (
        SELECT w.place, w.number, w.cap, w.alone, (
                   SELECT sum(c.taken) FROM send_counts AS c
                   WHERE c.day = of_day AND c.scope = w.scope AND c.subject = w.subject
               ) AS taken
        FROM unnest(scopes, subjects, numbers, caps, alone) WITH ORDINALITY
             AS w (scope, subject, number, cap, alone, place)
    ) AS after;
END
$$

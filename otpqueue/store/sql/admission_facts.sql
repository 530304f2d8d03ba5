-- The facts that the admission rules need about a phone number and an end user's address, for one client.
--
-- A number or address is looked up by all its hashes: two during a look-up key rotation. `number_nth` and
-- `address_nth` are the times of the n-th newest wrong code in the window, NULL if there are fewer. Wrong codes
-- of erased requests are included. The indexes otp_requests_number and checks_wrong_of_address keep the number
-- of rows read small, whatever the size of the tables. A check begins at most 30 minutes after its request was
-- accepted (twice 10 minutes, plus a check's lease).
CREATE OR REPLACE FUNCTION admission_facts(
    client uuid, numbers bytea[], addresses bytea[], at timestamptz,
    number_since timestamptz, number_before integer, address_since timestamptz, address_before integer
) RETURNS TABLE (blocked boolean, wrong_in_a_row bigint, number_nth timestamptz, address_nth timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT
        EXISTS (
            SELECT FROM do_not_send AS d
            WHERE d.number_hash = ANY(numbers) AND (d.until IS NULL OR d.until > at)
        ),
        guesses.in_a_row,
        (
            SELECT wrong.at FROM (
                SELECT c.started_at AS at FROM otp_requests AS r JOIN checks AS c ON c.request_id = r.id
                WHERE r.number_hash = ANY(numbers) AND r.client_id = client
                  AND r.created_at > number_since - interval '30 minutes'
                  AND c.started_at > greatest(number_since, guesses.unlocked_at)
                  AND (c.verdict IS NULL OR c.verdict IN ('unknown', 'wrong'))
                UNION ALL
                SELECT e.at FROM erased_wrong_codes AS e
                WHERE e.number_hash = ANY(numbers) AND e.client_id = client AND e.at > number_since
                  AND e.at > greatest(number_since, guesses.unlocked_at)
            ) AS wrong
            ORDER BY wrong.at DESC OFFSET number_before LIMIT 1
        ),
        (
            SELECT wrong.at FROM (
                SELECT c.started_at AS at FROM checks AS c JOIN otp_requests AS r ON r.id = c.request_id
                WHERE c.client_ip_hash = ANY(addresses) AND c.started_at > address_since
                  AND (c.verdict IS NULL OR c.verdict IN ('unknown', 'wrong')) AND r.client_id = client
                UNION ALL
                SELECT e.at FROM erased_wrong_codes AS e
                WHERE e.client_ip_hash = ANY(addresses) AND e.client_id = client AND e.at > address_since
            ) AS wrong
            ORDER BY wrong.at DESC OFFSET address_before LIMIT 1
        )
    FROM (
        SELECT coalesce(sum(g.wrong_in_a_row), 0) AS in_a_row, max(g.unlocked_at) AS unlocked_at
        FROM number_guesses AS g WHERE g.client_id = client AND g.number_hash = ANY(numbers)
    ) AS guesses
$$

-- SPDX-License-Identifier: GPL-3.0-or-later
-- Ten thousand customers, unless there are any. They are there before the pipeline: its initial load brings them to Redis.
INSERT INTO shop.customer (name, city, balance)
WITH digits (d) AS (
  SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
  UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
)
SELECT
  ELT(1 + a.d, 'Ada', 'Barbara', 'Edith', 'Frances', 'Grace', 'Hedy', 'Jean', 'Joan', 'Margaret', 'Radia'),
  ELT(1 + b.d, 'Bergen', 'Chengdu', 'Cusco', 'Dakar', 'Graz', 'Lyon', 'Oulu', 'Perth', 'Québec', 'São Paulo'),
  10 * c.d + d.d
FROM digits AS a, digits AS b, digits AS c, digits AS d
WHERE NOT EXISTS (SELECT 1 FROM shop.customer);

SELECT ROW_COUNT();

-- SPDX-License-Identifier: GPL-2.0-or-later
-- Removes all functions of both libraries; with the last one the server unloads the library, which closes its connections.
DROP FUNCTION IF EXISTS gman_do;
DROP FUNCTION IF EXISTS gman_do_high;
DROP FUNCTION IF EXISTS gman_do_low;
DROP FUNCTION IF EXISTS gman_do_background;
DROP FUNCTION IF EXISTS gman_do_high_background;
DROP FUNCTION IF EXISTS gman_do_low_background;
DROP FUNCTION IF EXISTS gman_sum;
DROP FUNCTION IF EXISTS gman_servers_set;
DROP FUNCTION IF EXISTS gman_wake;
DROP FUNCTION IF EXISTS gman_configure;
DROP FUNCTION IF EXISTS gman_stats;
DROP FUNCTION IF EXISTS gman_version;
DROP FUNCTION IF EXISTS json_object;
DROP FUNCTION IF EXISTS json_array;
DROP FUNCTION IF EXISTS json_members;
DROP FUNCTION IF EXISTS json_values;
DROP FUNCTION IF EXISTS udf_json_object;
DROP FUNCTION IF EXISTS udf_json_array;
DROP FUNCTION IF EXISTS udf_json_members;
DROP FUNCTION IF EXISTS udf_json_values;
DROP FUNCTION IF EXISTS lib_mysqludf_json_info;

-- SPDX-License-Identifier: GPL-2.0-or-later
-- Registers the functions of both libraries, which must be in the server's plugin directory (SELECT @@plugin_dir).
-- For a server that has no native JSON_OBJECT and JSON_ARRAY, see the end of this file.

CREATE FUNCTION gman_do RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_do_high RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_do_low RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_do_background RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_do_high_background RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_do_low_background RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE AGGREGATE FUNCTION gman_sum RETURNS INTEGER SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_servers_set RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_wake RETURNS INTEGER SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_configure RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_stats RETURNS STRING SONAME 'libgearman_mysql_udf.so';
CREATE FUNCTION gman_version RETURNS STRING SONAME 'libgearman_mysql_udf.so';

CREATE FUNCTION udf_json_object RETURNS STRING SONAME 'lib_mysqludf_json.so';
CREATE FUNCTION udf_json_array RETURNS STRING SONAME 'lib_mysqludf_json.so';
CREATE FUNCTION udf_json_members RETURNS STRING SONAME 'lib_mysqludf_json.so';
CREATE FUNCTION udf_json_values RETURNS STRING SONAME 'lib_mysqludf_json.so';
CREATE FUNCTION json_members RETURNS STRING SONAME 'lib_mysqludf_json.so';
CREATE FUNCTION json_values RETURNS STRING SONAME 'lib_mysqludf_json.so';
CREATE FUNCTION lib_mysqludf_json_info RETURNS STRING SONAME 'lib_mysqludf_json.so';

-- Servers since MariaDB 10.2.3 and MySQL 5.7.8 refuse these two with error 1585, because they have functions of those names:
-- CREATE FUNCTION json_object RETURNS STRING SONAME 'lib_mysqludf_json.so';
-- CREATE FUNCTION json_array RETURNS STRING SONAME 'lib_mysqludf_json.so';

/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The interface between the server and a loadable function, for MariaDB 10.5 and later and MySQL 8.0.1 and
 * later from one source.
 *
 * The two structures are declared here and not taken from the headers: MariaDB's connector package, often the
 * only one on a database host, has a short UDF_ARGS without the attribute names that the server sets. The
 * assertions below compare the members that both have, so a header that moves one stops the build.
 */
#pragma once

#include <mysql.h>
#include <stdbool.h>
#include <stddef.h>

#if defined(MARIADB_BASE_VERSION) || defined(MARIADB_VERSION_ID) || MYSQL_VERSION_ID < 80001
typedef my_bool udf_bool;
#else
typedef bool udf_bool;
#endif

typedef struct {
    unsigned int arg_count;
    enum Item_result *arg_type;
    char **args;
    unsigned long *lengths;
    char *maybe_null;
    char **attributes; /* alias or expression text of each argument */
    unsigned long *attribute_lengths;
    void *extension;
} udf_args;

typedef struct {
    udf_bool maybe_null;
    unsigned int decimals;
    unsigned long max_length;
    char *ptr;
    udf_bool const_item;
    void *extension;
} udf_init;

_Static_assert(offsetof(udf_args, arg_type) == offsetof(UDF_ARGS, arg_type), "UDF_ARGS.arg_type moved");
_Static_assert(offsetof(udf_args, args) == offsetof(UDF_ARGS, args), "UDF_ARGS.args moved");
_Static_assert(offsetof(udf_args, lengths) == offsetof(UDF_ARGS, lengths), "UDF_ARGS.lengths moved");
_Static_assert(offsetof(udf_args, maybe_null) == offsetof(UDF_ARGS, maybe_null), "UDF_ARGS.maybe_null moved");
_Static_assert(offsetof(udf_init, decimals) == offsetof(UDF_INIT, decimals), "UDF_INIT.decimals moved");
_Static_assert(offsetof(udf_init, max_length) == offsetof(UDF_INIT, max_length), "UDF_INIT.max_length moved");
_Static_assert(offsetof(udf_init, ptr) == offsetof(UDF_INIT, ptr), "UDF_INIT.ptr moved");
_Static_assert(offsetof(udf_init, const_item) == offsetof(UDF_INIT, const_item), "UDF_INIT.const_item moved");
_Static_assert(sizeof(udf_bool) == 1, "the server's boolean is one byte");

/* The manual guarantees a message buffer of this size for _init, whatever MYSQL_ERRMSG_SIZE is. */
#define UDF_MESSAGE_SIZE 80
/* The result buffer that the server passes to a row function. */
#define UDF_RESULT_SIZE 255
/* A server truncates results in temporary tables and new columns at the length that _init announces. From
 * this length on they are LONGTEXT. */
#define UDF_MAX_LENGTH 4294967295UL

#define UDF_EXPORT __attribute__((visibility("default")))
#define UNUSED __attribute__((unused))

/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Loads a UDF library and calls its functions as a server does, on commands from standard input. Built with
 * the sanitizers.
 *
 * Every value is in memory of exactly its size without a NUL after it, and the result buffer has 255 bytes,
 * so that the sanitizers detect an access beyond them. One command a line, words separated by blanks, one
 * line of answer each:
 *
 *   load PATH                         -> ok
 *   unload                            -> ok
 *   call FUNCTION ARGUMENT…           -> ok HEX | null | error | init HEX (the message)
 *   rows FUNCTION COUNT ARGUMENT…     -> the same, of the last of COUNT rows of one statement, and the number
 *                                        of NULLs
 *   integer FUNCTION ARGUMENT…        -> ok NUMBER | null | error | init HEX
 *   sum FUNCTION ARGUMENT… / …        -> ok NUMBER | null | …; each / ends a row of the group
 *   storm THREADS SECONDS FUNCTION ARGUMENT…  -> calls nulls worst(us) mean(us)
 *   mix THREADS SECONDS FUNCTION ARGUMENT… / FUNCTION ARGUMENT… / …  -> the same, for threads that take the
 *                                                                       calls in turn
 *   start FUNCTION ARGUMENT…          -> ok: a call in a separate thread
 *   join                              -> the number of NULLs of that call, when it is over
 *   fds                               -> the number of open descriptors
 *   allocated                         -> the bytes of memory in use
 *   overrun, overflow, leak           -> nothing: deliberate errors, to check the sanitizers
 *
 * ARGUMENT is TYPE:CONST:WIDTH:NAME:VALUE: TYPE S string, I integer, B bit, R real, D decimal; CONST 0 or 1;
 * WIDTH is the maximal length that the server reports; NAME is the attribute, in hex; VALUE is hex of its
 * text (of its bytes for S), or - for NULL.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../src/shared/udf.h"

enum { MOST_WORDS = 4096 };

/* Of both sanitizers. */
size_t __sanitizer_get_current_allocated_bytes(void);

typedef bool init_function(udf_init *, udf_args *, char *);
typedef char *text_function(udf_init *, udf_args *, char *, unsigned long *, unsigned char *,
                            unsigned char *);
typedef long long integer_function(udf_init *, udf_args *, unsigned char *, unsigned char *);
typedef void deinit_function(udf_init *);
typedef void clear_function(udf_init *, unsigned char *, unsigned char *);
typedef void add_function(udf_init *, udf_args *, unsigned char *, unsigned char *);

static void *library;

/* The asynchronous resolver of glibc, in place of the real one. The file that GMAN_TEST_NAMES names has a line for
 * each name: its addresses, or "!" (no name server answers) or "~" (it hangs until the line changes). Names that were
 * asked for are appended to the file with .asked after its name. */
static void name_entry(const char *name, char *entry, size_t size) {
    FILE *file = fopen(getenv("GMAN_TEST_NAMES"), "re");
    char *line = NULL;
    size_t capacity = 0, length = strlen(name);
    *entry = 0;
    while (file && getline(&line, &capacity, file) > 0)
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            snprintf(entry, size, "%s", line + length + 1);
    free(line);
    if (file)
        fclose(file);
}

static int resolve(struct gaicb *request) {
    char entry[512], *save = NULL;
    struct addrinfo hints = *request->ar_request, **end = &request->ar_result;
    hints.ai_flags |= AI_NUMERICHOST;
    for (int i = 0; i < 6000; i++) {
        name_entry(request->ar_name, entry, sizeof entry);
        if (*entry != '~')
            break;
        usleep(10000);
    }
    if (*entry == '!' || *entry == '~')
        return EAI_AGAIN;
    for (char *word = strtok_r(entry, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        if (getaddrinfo(word, request->ar_service, &hints, end) != 0)
            return EAI_FAIL;
        end = &(*end)->ai_next;
    }
    return request->ar_result ? 0 : EAI_NONAME;
}

static void *resolver(void *data) {
    struct gaicb *request = data;
    int state = resolve(request);
    __atomic_store_n(&request->__return, state, __ATOMIC_RELEASE);
    return NULL;
}

int getaddrinfo_a(int mode UNUSED, struct gaicb *list[], int count UNUSED, struct sigevent *event UNUSED) {
    char path[512];
    pthread_t thread;
    snprintf(path, sizeof path, "%s.asked", getenv("GMAN_TEST_NAMES"));
    FILE *asked = fopen(path, "ae");
    if (asked) {
        fprintf(asked, "%s\n", list[0]->ar_name);
        fclose(asked);
    }
    __atomic_store_n(&list[0]->__return, EAI_INPROGRESS, __ATOMIC_RELEASE);
    if (pthread_create(&thread, NULL, resolver, list[0]) != 0)
        return EAI_AGAIN;
    pthread_detach(thread);
    return 0;
}

int gai_error(struct gaicb *request) { return __atomic_load_n(&request->__return, __ATOMIC_ACQUIRE); }

/* Of the sanitizer of memory. */
void __lsan_ignore_object(const void *object) __attribute__((weak));

int gai_cancel(struct gaicb *request) {
    if (gai_error(request) != EAI_INPROGRESS)
        return EAI_ALLDONE;
    /* A library that is unloaded now cannot free it. */
    if (__lsan_ignore_object)
        __lsan_ignore_object(request);
    return EAI_NOTCANCELED;
}

static void *need(void *memory) {
    if (!memory)
        abort();
    return memory;
}

static char *unhex(const char *hex, size_t *length) {
    *length = strlen(hex) / 2;
    char *out = need(malloc(*length ? *length : 1));
    for (size_t i = 0; i < *length; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (char)strtoul(two, NULL, 16);
    }
    return out;
}

static void print_hex(const char *word, const char *data, size_t length) {
    printf("%s ", word);
    for (size_t i = 0; i < length; i++)
        printf("%02x", (unsigned char)data[i]);
    putchar('\n');
}

struct value {
    char type;
    bool constant, null;
    char *text;
    size_t length;
    char *name;
};

struct call {
    udf_init initid;
    udf_args args;
    struct value *values;
    init_function *init;
    deinit_function *deinit;
    void *row, *clear, *add;
};

static void *symbol(const char *function, const char *suffix) {
    char name[128];
    snprintf(name, sizeof name, "%s%s", function, suffix);
    return dlsym(library, name);
}

static void free_slot(struct call *call, unsigned i) {
    free(call->args.args[i]);
    call->args.args[i] = NULL;
}

/* The arguments of a row as the server sets them, by the type that _init has requested. */
static void fill(struct call *call, unsigned i) {
    struct value *value = &call->values[i];
    free_slot(call, i);
    if (value->null) {
        call->args.lengths[i] = 0;
        return;
    }
    char number[64] = "";
    memcpy(number, value->text, value->length < 63 ? value->length : 63);
    switch (call->args.arg_type[i]) {
    case INT_RESULT: {
        long long whole =
            number[0] == '-' ? strtoll(number, NULL, 10) : (long long)strtoull(number, NULL, 10);
        call->args.args[i] = need(malloc(sizeof whole));
        memcpy(call->args.args[i], &whole, sizeof whole);
        break;
    }
    case REAL_RESULT: {
        double real = strtod(number, NULL);
        call->args.args[i] = need(malloc(sizeof real));
        memcpy(call->args.args[i], &real, sizeof real);
        break;
    }
    default:
        if (value->type == 'B') { /* the text of a BIT is its bytes */
            unsigned long long bits = strtoull(number, NULL, 10);
            size_t bytes = (call->args.lengths[i] + 7) / 8;
            bytes = bytes > 8 ? 8 : bytes;
            call->args.args[i] = need(malloc(bytes));
            for (size_t b = 0; b < bytes; b++)
                call->args.args[i][b] = (char)(bits >> 8 * (bytes - 1 - b));
            call->args.lengths[i] = bytes;
            break;
        }
        call->args.args[i] = need(malloc(value->length ? value->length : 1));
        memcpy(call->args.args[i], value->text, value->length);
        call->args.lengths[i] = value->length;
    }
}

static void parse_value(struct call *call, unsigned i, char *word) {
    struct value *value = &call->values[i];
    char *save = NULL, *type = strtok_r(word, ":", &save), *constant = strtok_r(NULL, ":", &save),
         *width = strtok_r(NULL, ":", &save);
    char *rest = strtok_r(NULL, "", &save), *colon = strchr(rest, ':');
    *colon = 0;
    value->type = *type;
    value->constant = *constant == '1';
    value->null = colon[1] == '-';
    free(value->text);
    value->text = unhex(value->null ? "" : colon + 1, &value->length);
    size_t length;
    free(value->name);
    value->name = unhex(rest, &length);
    call->args.attributes[i] = value->name;
    call->args.attribute_lengths[i] = length;
    call->args.lengths[i] = strtoul(width, NULL, 10);
}

static struct call *begin(const char *function, char **words, unsigned count) {
    struct call *call = need(calloc(1, sizeof *call));
    call->values = need(calloc(count + 1, sizeof *call->values));
    call->args.arg_count = count;
    call->args.arg_type = need(calloc(count + 1, sizeof *call->args.arg_type));
    call->args.args = need(calloc(count + 1, sizeof *call->args.args));
    call->args.lengths = need(calloc(count + 1, sizeof *call->args.lengths));
    call->args.maybe_null = need(calloc(count + 1, 1));
    call->args.attributes = need(calloc(count + 1, sizeof *call->args.attributes));
    call->args.attribute_lengths = need(calloc(count + 1, sizeof *call->args.attribute_lengths));
    *(void **)&call->init = symbol(function, "_init");
    *(void **)&call->deinit = symbol(function, "_deinit");
    call->row = symbol(function, "");
    call->clear = symbol(function, "_clear");
    call->add = symbol(function, "_add");
    if (!call->init || !call->deinit || !call->row) {
        fprintf(stderr, "driver: %s is not exported with its _init and _deinit\n", function);
        exit(3);
    }
    for (unsigned i = 0; i < count; i++) {
        parse_value(call, i, words[i]);
        char type = call->values[i].type;
        call->args.arg_type[i] = type == 'S'   ? STRING_RESULT
                                 : type == 'R' ? REAL_RESULT
                                 : type == 'D' ? DECIMAL_RESULT
                                               : INT_RESULT;
        if (call->values[i].constant) {
            unsigned long width = call->args.lengths[i];
            fill(call, i);
            if (call->args.arg_type[i] == INT_RESULT || call->args.arg_type[i] == REAL_RESULT)
                call->args.lengths[i] = width;
        }
    }
    return call;
}

static void finish(struct call *call) {
    for (unsigned i = 0; i < call->args.arg_count; i++) {
        free_slot(call, i);
        free(call->values[i].text);
        free(call->values[i].name);
    }
    free(call->values);
    free(call->args.arg_type);
    free(call->args.args);
    free(call->args.lengths);
    free(call->args.maybe_null);
    free(call->args.attributes);
    free(call->args.attribute_lengths);
    free(call);
}

/* False: _init has failed, and the answer is printed. */
static bool initialise(struct call *call) {
    char *message = need(calloc(1, UDF_MESSAGE_SIZE));
    unsigned long *widths = need(malloc((call->args.arg_count + 1) * sizeof *widths));
    memcpy(widths, call->args.lengths, call->args.arg_count * sizeof *widths);
    call->initid.max_length = 255;
    call->initid.const_item = 1;
    bool refused = call->init(&call->initid, &call->args, message);
    if (refused)
        print_hex("init", message, strnlen(message, UDF_MESSAGE_SIZE));
    for (unsigned i = 0; i < call->args.arg_count; i++)
        call->args.lengths[i] = widths[i];
    free(widths);
    free(message);
    return !refused;
}

static int64_t microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void run_text(const char *function, char **words, unsigned count, long rows) {
    struct call *call = begin(function, words, count);
    if (initialise(call)) {
        text_function *row;
        *(void **)&row = call->row;
        char *result = need(malloc(UDF_RESULT_SIZE)), *answer = NULL;
        unsigned long length = 0, nulls = 0;
        unsigned char is_null = 0, error = 0;
        for (long n = 0; n < rows && !error; n++) {
            for (unsigned i = 0; i < count; i++)
                fill(call, i);
            length = UDF_RESULT_SIZE;
            is_null = 0;
            answer = row(&call->initid, &call->args, result, &length, &is_null, &error);
            nulls += is_null || !answer;
        }
        if (rows > 1)
            printf("%lu ", nulls);
        if (error)
            puts("error");
        else if (is_null || !answer)
            puts("null");
        else
            print_hex("ok", answer, length);
        call->deinit(&call->initid);
        free(result);
    }
    finish(call);
}

static void run_integer(const char *function, char **words, unsigned count) {
    struct call *call = begin(function, words, count);
    if (initialise(call)) {
        integer_function *row;
        *(void **)&row = call->row;
        unsigned char is_null = 0, error = 0;
        for (unsigned i = 0; i < count; i++)
            fill(call, i);
        long long answer = row(&call->initid, &call->args, &is_null, &error);
        if (error || is_null)
            puts(error ? "error" : "null");
        else
            printf("ok %lld\n", answer);
        call->deinit(&call->initid);
    }
    finish(call);
}

static void run_sum(const char *function, char **words, unsigned count) {
    unsigned width = 0;
    while (width < count && strcmp(words[width], "/") != 0)
        width++;
    char *first[8];
    for (unsigned i = 0; i < width; i++)
        first[i] = need(strdup(words[i]));
    struct call *call = begin(function, first, width);
    for (unsigned i = 0; i < width; i++)
        free(first[i]);
    if (initialise(call)) {
        integer_function *row;
        clear_function *clear;
        add_function *add;
        *(void **)&row = call->row;
        *(void **)&clear = call->clear;
        *(void **)&add = call->add;
        unsigned char is_null = 0, error = 0;
        clear(&call->initid, &is_null, &error);
        for (unsigned at = 0; at + width < count; at += width + 1) {
            for (unsigned i = 0; i < width; i++) {
                parse_value(call, i, words[at + i]);
                fill(call, i);
            }
            add(&call->initid, &call->args, &is_null, &error);
        }
        long long answer = row(&call->initid, &call->args, &is_null, &error);
        if (error || is_null)
            puts(error ? "error" : "null");
        else
            printf("ok %lld\n", answer);
        call->deinit(&call->initid);
    }
    finish(call);
}

struct storm {
    const char *function;
    char **words;
    unsigned count;
    int64_t lasts;
    pthread_barrier_t *start; /* NULL: at once */
    unsigned long calls, nulls;
    int64_t worst, total;
};

static void *storm_thread(void *data) {
    struct storm *storm = data;
    char *words[8];
    for (unsigned i = 0; i < storm->count; i++)
        words[i] = need(strdup(storm->words[i]));
    struct call *call = begin(storm->function, words, storm->count);
    if (initialise(call)) {
        text_function *row;
        integer_function *whole;
        *(void **)&row = call->row;
        *(void **)&whole = call->row;
        bool integer = strcmp(storm->function, "gman_wake") == 0;
        char *result = need(malloc(UDF_RESULT_SIZE));
        for (unsigned i = 0; i < storm->count; i++)
            fill(call, i);
        if (storm->start)
            pthread_barrier_wait(storm->start);
        int64_t until = microseconds() + storm->lasts;
        do {
            unsigned long length = UDF_RESULT_SIZE;
            unsigned char is_null = 0, error = 0;
            int64_t began = microseconds();
            if (integer)
                whole(&call->initid, &call->args, &is_null, &error);
            else
                row(&call->initid, &call->args, result, &length, &is_null, &error);
            int64_t took = microseconds() - began;
            storm->calls++;
            storm->nulls += is_null;
            storm->total += took;
            storm->worst = took > storm->worst ? took : storm->worst;
        } while (microseconds() < until);
        call->deinit(&call->initid);
        free(result);
    }
    finish(call);
    for (unsigned i = 0; i < storm->count; i++)
        free(words[i]);
    return NULL;
}

/* Words: the calls, each a function and its arguments, with / between them. */
static void run_storm(unsigned threads, double seconds, char **words, unsigned count) {
    unsigned at = 0;
    struct storm *storms = need(calloc(threads, sizeof *storms)), all = {.worst = 0};
    pthread_t *ids = need(calloc(threads, sizeof *ids));
    int64_t lasts = (int64_t)(seconds * 1e6);
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        unsigned stop = at;
        while (stop < count && strcmp(words[stop], "/") != 0)
            stop++;
        storms[i] = (struct storm){.function = words[at],
                                   .words = words + at + 1,
                                   .count = stop - at - 1,
                                   .lasts = lasts,
                                   .start = &start};
        at = stop < count ? stop + 1 : 0;
        if (pthread_create(&ids[i], NULL, storm_thread, &storms[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        all.calls += storms[i].calls;
        all.nulls += storms[i].nulls;
        all.total += storms[i].total;
        all.worst = storms[i].worst > all.worst ? storms[i].worst : all.worst;
    }
    printf("%lu %lu %lld %lld\n", all.calls, all.nulls, (long long)all.worst,
           (long long)(all.calls ? all.total / (int64_t)all.calls : 0));
    pthread_barrier_destroy(&start);
    free(ids);
    free(storms);
}

/* A call that runs while other commands are executed. */
static struct storm one;
static pthread_t one_thread;

static void run_start(const char *function, char **words, unsigned count) {
    one = (struct storm){
        .function = need(strdup(function)), .words = need(calloc(count + 1, sizeof *words)), .count = count};
    for (unsigned i = 0; i < count; i++)
        one.words[i] = need(strdup(words[i]));
    if (pthread_create(&one_thread, NULL, storm_thread, &one) != 0)
        abort();
    puts("ok");
}

static void run_join(void) {
    pthread_join(one_thread, NULL);
    for (unsigned i = 0; i < one.count; i++)
        free(one.words[i]);
    free(one.words);
    free((char *)(uintptr_t)one.function);
    printf("%lu\n", one.nulls);
}

static int count_fds(void) {
    DIR *directory = need(opendir("/proc/self/fd"));
    int count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 3; /* ".", ".." and the directory itself */
}

int main(void) {
    char *line = NULL, *words[MOST_WORDS];
    size_t capacity = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (getline(&line, &capacity, stdin) > 0) {
        unsigned count = 0;
        char *save = NULL;
        for (char *word = strtok_r(line, " \n", &save); word && count < MOST_WORDS;
             word = strtok_r(NULL, " \n", &save))
            words[count++] = word;
        if (count == 0)
            continue;
        if (strcmp(words[0], "load") == 0) {
            library = dlopen(words[1], RTLD_NOW | RTLD_LOCAL);
            puts(library ? "ok" : dlerror());
        } else if (strcmp(words[0], "unload") == 0) {
            puts(dlclose(library) == 0 ? "ok" : dlerror());
            library = NULL;
        } else if (strcmp(words[0], "call") == 0) {
            run_text(words[1], words + 2, count - 2, 1);
        } else if (strcmp(words[0], "rows") == 0) {
            run_text(words[1], words + 3, count - 3, strtol(words[2], NULL, 10));
        } else if (strcmp(words[0], "integer") == 0) {
            run_integer(words[1], words + 2, count - 2);
        } else if (strcmp(words[0], "sum") == 0) {
            run_sum(words[1], words + 2, count - 2);
        } else if (strcmp(words[0], "storm") == 0 || strcmp(words[0], "mix") == 0) {
            run_storm((unsigned)strtoul(words[1], NULL, 10), strtod(words[2], NULL), words + 3, count - 3);
        } else if (strcmp(words[0], "start") == 0) {
            run_start(words[1], words + 2, count - 2);
        } else if (strcmp(words[0], "join") == 0) {
            run_join();
        } else if (strcmp(words[0], "fds") == 0) {
            printf("%d\n", count_fds());
        } else if (strcmp(words[0], "allocated") == 0) {
            printf("%zu\n", __sanitizer_get_current_allocated_bytes());
        } else if (strcmp(words[0], "overrun") == 0) {
            volatile char *byte = need(malloc(count));
            byte[count] = 1;
        } else if (strcmp(words[0], "overflow") == 0) {
            volatile int most = INT32_MAX;
            most += (int)count;
        } else if (strcmp(words[0], "leak") == 0) {
            *(volatile char *)need(malloc(count)) = 1;
            puts("ok");
        } else {
            fprintf(stderr, "driver: unknown command %s\n", words[0]);
            return 2;
        }
    }
    free(line);
    if (library)
        dlclose(library);
    return 0;
}

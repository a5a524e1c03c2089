/* SPDX-License-Identifier: GPL-2.0-or-later */
#define _GNU_SOURCE /* dladdr, RTLD_DEFAULT, O_CLOEXEC, st_mtim */
#include "tls.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "settings.h"
#include "wait.h"

/* The functions of OpenSSL that are used. 1.1.1 and 3 have all of them, with these arguments. */
typedef struct ssl_st SSL;
typedef struct ssl_ctx_st SSL_CTX;
typedef struct bio_st BIO;

#define OPENSSL_FUNCTIONS(USE)                                                                            \
    USE(const void *, TLS_client_method, (void))                                                          \
    USE(SSL_CTX *, SSL_CTX_new, (const void *method))                                                     \
    USE(int, SSL_CTX_up_ref, (SSL_CTX * context))                                                         \
    USE(void, SSL_CTX_free, (SSL_CTX * context))                                                          \
    USE(long, SSL_CTX_ctrl, (SSL_CTX * context, int command, long number, void *pointer))                 \
    USE(void, SSL_CTX_set_verify, (SSL_CTX * context, int mode, void *callback))                          \
    USE(void, SSL_CTX_set_default_passwd_cb, (SSL_CTX * context, int (*ask)(char *, int, int, void *)))   \
    USE(int, SSL_CTX_load_verify_locations, (SSL_CTX * context, const char *file, const char *directory)) \
    USE(int, SSL_CTX_set_default_verify_paths, (SSL_CTX * context))                                       \
    USE(int, SSL_CTX_use_certificate_chain_file, (SSL_CTX * context, const char *file))                   \
    USE(int, SSL_CTX_use_PrivateKey_file, (SSL_CTX * context, const char *file, int type))                \
    USE(int, SSL_CTX_check_private_key, (const SSL_CTX *context))                                         \
    USE(SSL *, SSL_new, (SSL_CTX * context))                                                              \
    USE(void, SSL_free, (SSL * ssl))                                                                      \
    USE(long, SSL_ctrl, (SSL * ssl, int command, long number, void *pointer))                             \
    USE(void, SSL_set_bio, (SSL * ssl, BIO * input, BIO * output))                                        \
    USE(int, SSL_connect, (SSL * ssl))                                                                    \
    USE(int, SSL_read, (SSL * ssl, void *data, int size))                                                 \
    USE(int, SSL_write, (SSL * ssl, const void *data, int size))                                          \
    USE(int, SSL_shutdown, (SSL * ssl))                                                                   \
    USE(int, SSL_get_error, (const SSL *ssl, int result))                                                 \
    USE(long, SSL_get_verify_result, (const SSL *ssl))                                                    \
    USE(void *, SSL_get0_param, (SSL * ssl))                                                              \
    USE(int, X509_VERIFY_PARAM_set1_host, (void *param, const char *name, size_t length))                 \
    USE(int, X509_VERIFY_PARAM_set1_ip, (void *param, const unsigned char *ip, size_t length))            \
    USE(const char *, X509_verify_cert_error_string, (long code))                                         \
    USE(const void *, BIO_s_mem, (void))                                                                  \
    USE(BIO *, BIO_new, (const void *method))                                                             \
    USE(int, BIO_read, (BIO * bio, void *data, int size))                                                 \
    USE(int, BIO_write, (BIO * bio, const void *data, int size))                                          \
    USE(unsigned long, ERR_get_error, (void))                                                             \
    USE(const char *, ERR_reason_error_string, (unsigned long code))                                      \
    USE(void, ERR_clear_error, (void))

enum {
    CONTROL_MODE = 33,
    CONTROL_SERVER_NAME = 55,
    CONTROL_LOWEST_VERSION = 123,
    MODE_RELEASE_BUFFERS = 0x10, /* idle connections keep little memory */
    VERSION_1_2 = 0x0303,
    VERIFY_PEER = 1,
    FORMAT_PEM = 1,
    WANT_READ = 2,
    CLOSED_PROPERLY = 6,
    RECORD = 16384,             /* bytes of data in a TLS record */
    WIRE = RECORD + 2048,       /* room for one on the wire */
    HANDSHAKE_MOST = 1024 * 1024, /* bytes that a server may send before the end of its handshake */
};

#define DECLARE(RESULT, NAME, ARGUMENTS) RESULT(*NAME) ARGUMENTS;
static struct {
    OPENSSL_FUNCTIONS(DECLARE)
} api;

struct tls {
    SSL *ssl;
    BIO *input, *output; /* of the ssl */
    unsigned char wire[WIRE]; /* output from start to end is not sent yet */
    size_t start, end, handshake_bytes;
    bool established, refused;
};

/* What the settings of TLS say: the files that they name, open to be read, and the rest. */
struct files {
    int fd[TLS_FILES]; /* -1: the setting is empty */
    /* For OpenSSL: whatever lies at the path by now, it is the file that was checked. */
    char name[TLS_FILES][32];
    struct choice {
        int64_t stamp[TLS_FILES][5]; /* what tells that a file is another one, or was written to */
        int64_t version;             /* of TLS_MIN_VERSION */
        struct address server;       /* the host that certificates must have; "": the one in each address */
    } choice;
};

/* Guards api (while it is filled), context, chosen, no_context and atexit. Held only while OpenSSL is loaded.
 * Only tls_reload changes them, and its callers exclude each other. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool loaded;
static SSL_CTX *context;
static struct choice chosen; /* for the context */
static char no_context[WHAT_MAX] = "TLS: not configured"; /* the reason why there is no context */
static atomic_uint generation;
/* The process exits, and OpenSSL has already freed its data. */
static atomic_bool ending;

unsigned tls_generation(void) { return atomic_load_explicit(&generation, memory_order_relaxed); }

/* --- OpenSSL --- */

/* A server with a static OpenSSL that exports its symbols would mix functions of two versions. Shared
 * libraries do not: their symbols are versioned. */
static bool server_has_its_own(void) {
    void *known = dlsym(RTLD_DEFAULT, "OPENSSL_init_crypto");
    Dl_info where;
    return known && dladdr(known, &where) && !strstr(where.dli_fname, "libcrypto.");
}

static void note_end(void) { ending = true; }

/* With the lock held. The reason when it cannot be used, otherwise NULL. */
static const char *load(void) {
    /* Prefer the copy that the server uses. OpenSSL has thread-local data, so it stays loaded when this
     * library is unloaded. */
    static const char *const names[] = {"libssl.so.3", "libssl.so.1.1"};
    const int flags = RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE;
    void *library = NULL;
    if (loaded)
        return NULL;
    if (server_has_its_own())
        return "the server contains a static OpenSSL, and no second one can be loaded";
    for (int i = 0; i < 4 && !library; i++)
        library = dlopen(names[i % 2], i < 2 ? flags | RTLD_NOLOAD : flags);
    if (!library)
        return "neither libssl.so.3 nor libssl.so.1.1 can be loaded";
#define FIND(RESULT, NAME, ARGUMENTS)                \
    *(void **)&api.NAME = dlsym(library, #NAME);     \
    if (!api.NAME)                                   \
        return "the system's OpenSSL has no " #NAME;
    OPENSSL_FUNCTIONS(FIND)
    loaded = atexit(note_end) == 0;
    return loaded ? NULL : "out of memory";
}

/* OpenSSL's reason without error codes. Empties the queue of errors, which the server reads too. */
static const char *reason(void) {
    unsigned long code = api.ERR_get_error(), next;
    /* The first error is the cause; one of opening a file is an error of the system. */
    const char *text = code ? api.ERR_reason_error_string(code) : NULL;
    while (!text && (next = api.ERR_get_error()) != 0)
        text = api.ERR_reason_error_string(next);
    api.ERR_clear_error();
    return text ? text : "no reason given";
}

/* For an encrypted key OpenSSL would prompt on the server's terminal. */
static int no_password(char *out, int size, int writing, void *data) {
    (void)writing, (void)data;
    if (size > 0)
        *out = 0;
    return 0;
}

/* Open the file of a setting. Regular files only, because opening or reading another one may wait for ever.
 * The reason when it cannot be read. */
static const char *file_open(struct files *files, int which) {
    char path[TEXT_SETTING_MAX + 1];
    struct stat is;
    settings_text((enum setting)which, path);
    if (!path[0])
        return NULL;
    int fd = files->fd[which] = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &is) != 0)
        return strerror(errno);
    if (!S_ISREG(is.st_mode))
        return "not a regular file";
    int64_t stamp[] = {(int64_t)is.st_dev, (int64_t)is.st_ino, is.st_size, is.st_mtim.tv_sec,
                       is.st_mtim.tv_nsec};
    memcpy(files->choice.stamp[which], stamp, sizeof stamp);
    snprintf(files->name[which], sizeof files->name[which], "/proc/self/fd/%d", fd);
    return NULL;
}

/* False with the reason. In any case the files are to be closed. */
static bool files_open(struct files *files, char problem[WHAT_MAX]) {
    char name[TEXT_SETTING_MAX + 1];
    memset(files, 0, sizeof *files);
    memset(files->fd, -1, sizeof files->fd);
    files->choice.version = setting(TLS_MIN_VERSION);
    settings_text(TLS_SERVER_NAME, name);
    address_host_parse((struct slice){name, strlen(name)}, &files->choice.server); /* checked before */
    for (int i = 0; i < TLS_FILES; i++) {
        const char *why = file_open(files, i);
        if (why) {
            snprintf(problem, WHAT_MAX, "TLS: %s: %s", settings_name((enum setting)i), why);
            return false;
        }
    }
    if ((files->fd[TLS_CERT] < 0) == (files->fd[TLS_KEY] < 0))
        return true;
    snprintf(problem, WHAT_MAX, "TLS: tls_cert and tls_key need each other, and one is missing");
    return false;
}

/* Pass the files to OpenSSL. The setting whose file it does not accept, or TLS_FILES. */
static enum setting files_use(const struct files *files, SSL_CTX *made) {
    if (files->fd[TLS_CA] < 0 ? api.SSL_CTX_set_default_verify_paths(made) != 1
                              : api.SSL_CTX_load_verify_locations(made, files->name[TLS_CA], NULL) != 1)
        return TLS_CA;
    if (files->fd[TLS_CERT] < 0)
        return TLS_FILES;
    if (api.SSL_CTX_use_certificate_chain_file(made, files->name[TLS_CERT]) != 1)
        return TLS_CERT;
    if (api.SSL_CTX_use_PrivateKey_file(made, files->name[TLS_KEY], FORMAT_PEM) != 1 ||
        api.SSL_CTX_check_private_key(made) != 1)
        return TLS_KEY;
    return TLS_FILES;
}

static SSL_CTX *context_new(const struct files *files, char problem[WHAT_MAX]) {
    pthread_mutex_lock(&lock);
    const char *why = load();
    pthread_mutex_unlock(&lock);
    if (why) {
        snprintf(problem, WHAT_MAX, "TLS: %s", why);
        return NULL;
    }
    api.ERR_clear_error();
    SSL_CTX *made = api.SSL_CTX_new(api.TLS_client_method());
    long lowest = VERSION_1_2 + (long)files->choice.version;
    if (!made || api.SSL_CTX_ctrl(made, CONTROL_LOWEST_VERSION, lowest, NULL) != 1) {
        snprintf(problem, WHAT_MAX, "TLS: %s", reason());
    } else {
        api.SSL_CTX_ctrl(made, CONTROL_MODE, MODE_RELEASE_BUFFERS, NULL);
        api.SSL_CTX_set_verify(made, VERIFY_PEER, NULL);
        api.SSL_CTX_set_default_passwd_cb(made, no_password);
        enum setting wrong = files_use(files, made);
        if (wrong == TLS_FILES)
            return made;
        snprintf(problem, WHAT_MAX, "TLS: %s: %s", settings_name(wrong), reason());
    }
    api.SSL_CTX_free(made);
    return NULL;
}

/* Without a context, the reason is in problem. */
static void replace_context(SSL_CTX *made, const struct choice *choice, const char *problem) {
    pthread_mutex_lock(&lock);
    SSL_CTX *old = context;
    context = made;
    if (made)
        memcpy(&chosen, choice, sizeof chosen);
    else
        snprintf(no_context, sizeof no_context, "%s", problem);
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&generation, 1);
    if (old)
        api.SSL_CTX_free(old);
}

bool tls_reload(bool only_changed, char problem[WHAT_MAX]) {
    struct files files;
    if (!setting(TLS)) {
        replace_context(NULL, NULL, "TLS: not configured");
        return true;
    }
    bool usable = files_open(&files, problem);
    bool same = usable && only_changed && context && memcmp(&chosen, &files.choice, sizeof chosen) == 0;
    SSL_CTX *made = usable && !same ? context_new(&files, problem) : NULL;
    for (int i = 0; i < TLS_FILES; i++)
        if (files.fd[i] >= 0)
            close(files.fd[i]);
    if (!same && (made || !context))
        replace_context(made, &files.choice, problem);
    return made || same;
}

/* With one more reference, and the host that certificates must have, when it is set. */
static SSL_CTX *take_context(struct address *host, char problem[WHAT_MAX]) {
    pthread_mutex_lock(&lock);
    SSL_CTX *taken = context;
    if (chosen.server.host[0])
        *host = chosen.server;
    if (taken)
        api.SSL_CTX_up_ref(taken);
    else
        snprintf(problem, WHAT_MAX, "%s", no_context);
    pthread_mutex_unlock(&lock);
    return taken;
}

void tls_unload(void) {
    if (context && !ending)
        api.SSL_CTX_free(context);
    context = NULL;
}

/* --- a session --- */

/* Set the name that the certificate must contain. */
static bool expect(SSL *ssl, const struct address *address) {
    char host[HOST_MAX + 1];
    unsigned char ip[sizeof(struct in6_addr)];
    address_host(address, host);
    if (!address->numeric)
        return api.X509_VERIFY_PARAM_set1_host(api.SSL_get0_param(ssl), host, 0) == 1 &&
               api.SSL_ctrl(ssl, CONTROL_SERVER_NAME, 0, host) == 1;
    host[strcspn(host, "%")] = 0; /* the zone of an IPv6 address is local to this machine */
    bool v6 = strchr(host, ':') != NULL;
    return inet_pton(v6 ? AF_INET6 : AF_INET, host, ip) == 1 &&
           api.X509_VERIFY_PARAM_set1_ip(api.SSL_get0_param(ssl), ip, v6 ? 16 : 4) == 1;
}

struct tls *tls_begin(const struct address *address, char problem[WHAT_MAX]) {
    struct address host = *address;
    SSL_CTX *from = take_context(&host, problem);
    if (!from)
        return NULL;
    api.ERR_clear_error();
    struct tls *tls = calloc(1, sizeof *tls);
    SSL *ssl = api.SSL_new(from);
    api.SSL_CTX_free(from);
    if (tls && ssl) {
        tls->ssl = ssl;
        tls->input = api.BIO_new(api.BIO_s_mem());
        tls->output = api.BIO_new(api.BIO_s_mem());
        api.SSL_set_bio(ssl, tls->input, tls->output); /* it owns them, NULL as well */
        if (tls->input && tls->output && expect(ssl, &host))
            return tls;
    }
    snprintf(problem, WHAT_MAX, "TLS: out of memory");
    free(tls);
    api.SSL_free(ssl); /* NULL is nothing to free */
    api.ERR_clear_error();
    return NULL;
}

bool tls_has_output(const struct tls *tls) { return tls->start < tls->end; }

/* Send pending output. */
static enum io_result flush(struct tls *tls, int fd) {
    for (;;) {
        if (tls->start == tls->end) {
            int pending = api.BIO_read(tls->output, tls->wire, sizeof tls->wire);
            if (pending <= 0)
                return IO_OK;
            tls->start = 0;
            tls->end = (size_t)pending;
        }
        size_t sent;
        enum io_result result = socket_send(fd, tls->wire + tls->start, tls->end - tls->start, &sent);
        if (result != IO_OK)
            return result;
        tls->start += sent;
    }
}

/* Pass one piece from the socket to OpenSSL. */
static enum io_result fill(struct tls *tls, int fd) {
    unsigned char piece[WIRE];
    size_t got;
    enum io_result result = socket_receive(fd, piece, sizeof piece, &got);
    if (result != IO_OK)
        return result;
    if (!tls->established)
        tls->handshake_bytes += got;
    return api.BIO_write(tls->input, piece, (int)got) == (int)got ? IO_OK : IO_INSECURE;
}

/* Continue after a call that did not succeed: IO_OK when there is new input for another try. */
static enum io_result go_on(struct tls *tls, int fd, int result) {
    int error = api.SSL_get_error(tls->ssl, result);
    if (error == WANT_READ)
        return flush(tls, fd) == IO_CLOSED ? IO_CLOSED : fill(tls, fd);
    tls->refused = true;
    if (error == CLOSED_PROPERLY)
        return IO_CLOSED;
    (void)flush(tls, fd); /* after an error, only the alert in the output may be sent */
    return IO_INSECURE;
}

enum io_result tls_handshake(struct tls *tls, int fd, char problem[WHAT_MAX]) {
    while (!tls->established) {
        api.ERR_clear_error();
        int result = api.SSL_connect(tls->ssl);
        tls->established = result == 1;
        enum io_result next = tls->established                        ? IO_OK
                              : tls->handshake_bytes > HANDSHAKE_MOST ? IO_INSECURE
                                                                      : go_on(tls, fd, result);
        if (next == IO_OK)
            continue;
        if (next == IO_TIMEOUT)
            return next;
        long verdict = api.SSL_get_verify_result(tls->ssl);
        const char *why = next == IO_CLOSED ? "the server closed the connection" : reason();
        if (verdict)
            snprintf(problem, WHAT_MAX, "TLS: the server's certificate: %s",
                     api.X509_verify_cert_error_string(verdict));
        else
            snprintf(problem, WHAT_MAX, "TLS: %s", why);
        api.ERR_clear_error();
        return next;
    }
    enum io_result flushed = flush(tls, fd);
    if (flushed == IO_CLOSED)
        snprintf(problem, WHAT_MAX, "TLS: the server closed the connection");
    return flushed;
}

enum io_result tls_write(struct tls *tls, int fd, struct slice data, size_t *taken) {
    *taken = 0;
    enum io_result flushed = flush(tls, fd);
    if (flushed != IO_OK || data.length == 0)
        return flushed;
    api.ERR_clear_error();
    /* The output is unlimited: OpenSSL accepts all of it, or the session is broken. */
    int done = api.SSL_write(tls->ssl, data.data, data.length < RECORD ? (int)data.length : RECORD);
    if (done > 0) {
        *taken = (size_t)done;
        return flush(tls, fd);
    }
    tls->refused = true;
    api.ERR_clear_error();
    return IO_INSECURE;
}

enum io_result tls_read(struct tls *tls, int fd, void *data, size_t size, size_t *got,
                        char problem[WHAT_MAX]) {
    for (;;) {
        api.ERR_clear_error();
        int done = api.SSL_read(tls->ssl, data, size < INT32_MAX ? (int)size : INT32_MAX);
        if (done > 0) {
            *got = (size_t)done;
            return IO_OK;
        }
        enum io_result next = go_on(tls, fd, done);
        if (next != IO_OK) {
            if (next == IO_INSECURE)
                snprintf(problem, WHAT_MAX, "TLS: %s", reason());
            api.ERR_clear_error();
            return next;
        }
    }
}

void tls_end(struct tls *tls, int fd) {
    if (tls && !ending) {
        if (tls->established && !tls->refused) {
            api.SSL_shutdown(tls->ssl);
            (void)flush(tls, fd);
        }
        api.SSL_free(tls->ssl);
        api.ERR_clear_error();
    }
    free(tls);
}

/*
 * Copyright: (c) 2026, keyfleet.hsm contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A PKCS#11 library in front of a real one, for faults on purpose. FAULT_REAL is the real library. FAULT_PLAN holds
 * faults, separated by spaces: FUNCTION:N:HOW, where the Nth call of the function in this process, or with * for FUNCTION
 * the Nth of all calls that FAULT_COUNT counts,
 *   before=0x30  returns that value without the real call,
 *   after=0x30   makes the real call and returns that value all the same,
 *   stop         ends the process with SIGKILL,
 *   kill         makes the real call and ends the process with SIGKILL,
 *   crash        ends the process with SIGSEGV,
 *   hang         never returns.
 * With :on behind it, every later call but C_Finalize returns CKR_DEVICE_ERROR without the real call. FAULT_LOG is a file that
 * gets one line for each call. FAULT_COUNT is a file of eight bytes that counts the calls of all processes. FAULT_SWITCH is a file
 * that holds a HOW for every call of all processes but C_Finalize, as long as it is there; its hang ends with it.
 *
 * FAULT_FLAGS are flags that C_GetTokenInfo adds for a token that is initialised; FAULT_SERIAL is the serial number that it gives to
 * every token, padded with NUL. FAULT_FALSE is ATTRIBUTE=VALUE: a template for a new object that says that this attribute is false
 * gets that return value without the real call. FAULT_HIDE are numbers of attributes, separated by blanks: it answers that no object
 * has them.
 *
 * With FAULT_OWN_LISTS each C_GetFunctionList gives functions of its own, as p11-kit's does: those of a later one know of no C_Initialize.
 *
 * FAULT_DELAY are microseconds that each call takes longer, as over a network.
 *
 * FAULT_PINPAD makes it a double of a device with a PIN pad, which nobody here has: it names a file with the PIN that "the person types".
 * Every initialised token has CKF_PROTECTED_AUTHENTICATION_PATH, a C_Login with a PIN returns CKR_ARGUMENTS_BAD without the real call, and one
 * without a PIN makes the real call with what the file holds. Where there is no such file, nobody types: CKR_FUNCTION_CANCELED.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t (*call_t)(void *, void *, void *, void *, void *, void *, void *, void *);

/* The functions in the order of CK_FUNCTION_LIST (PKCS#11 3.1, section 5); none takes more than eight arguments. */
#define FUNCTIONS(X)                                                                                                   \
    X(0, C_Initialize) X(1, C_Finalize) X(2, C_GetInfo) X(4, C_GetSlotList) X(5, C_GetSlotInfo) X(6, C_GetTokenInfo)   \
    X(7, C_GetMechanismList) X(8, C_GetMechanismInfo) X(9, C_InitToken) X(10, C_InitPIN) X(11, C_SetPIN)               \
    X(12, C_OpenSession) X(13, C_CloseSession) X(14, C_CloseAllSessions) X(15, C_GetSessionInfo) X(18, C_Login)        \
    X(19, C_Logout) X(20, C_CreateObject) X(21, C_CopyObject) X(22, C_DestroyObject) X(23, C_GetObjectSize)            \
    X(24, C_GetAttributeValue) X(25, C_SetAttributeValue) X(26, C_FindObjectsInit) X(27, C_FindObjects)                \
    X(28, C_FindObjectsFinal) X(29, C_EncryptInit) X(30, C_Encrypt) X(31, C_EncryptUpdate) X(32, C_EncryptFinal)       \
    X(33, C_DecryptInit) X(34, C_Decrypt) X(35, C_DecryptUpdate) X(36, C_DecryptFinal) X(42, C_SignInit) X(43, C_Sign) \
    X(44, C_SignUpdate) X(45, C_SignFinal) X(48, C_VerifyInit) X(49, C_Verify) X(50, C_VerifyUpdate)                   \
    X(51, C_VerifyFinal) X(58, C_GenerateKey) X(59, C_GenerateKeyPair) X(60, C_WrapKey) X(61, C_UnwrapKey)             \
    X(62, C_DeriveKey) X(63, C_SeedRandom) X(64, C_GenerateRandom)
#define SLOTS 68
#define DEVICE_ERROR 0x30
#define TOKEN_INFO 6
#define TOKEN_INITIALIZED 0x400UL
#define LOGIN 18
#define GET_ATTRIBUTES 24
#define PROTECTED_AUTHENTICATION_PATH 0x100UL
#define ARGUMENTS_BAD 0x7
#define FUNCTION_CANCELED 0x50
#define ATTRIBUTE_TYPE_INVALID 0x12

struct attribute {
    ulong_t type;
    void *value;
    ulong_t length;
};

struct function_list {
    unsigned char version[2];
    void *functions[SLOTS];
};

static struct function_list copy;
static struct function_list *real;
static int seen[SLOTS];
static int dead; /* every later call fails */

/* The number of this call among those of all processes; 0 where they are not counted. */
static long counted(void)
{
    static long *counter;
    const char *path = getenv("FAULT_COUNT");

    if (!counter && path) {
        int file = open(path, O_RDWR);
        counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (counter == MAP_FAILED)
            abort();
        close(file);
    }
    return counter ? __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST) : 0;
}

/* What FAULT_PLAN says of the Nth call of a name: a pointer to HOW, or NULL. */
static const char *planned(const char *name, long number)
{
    const char *plan = getenv("FAULT_PLAN"), *at;
    char wanted[128];

    if (!plan)
        return NULL;
    snprintf(wanted, sizeof wanted, "%s:%ld:", name, number);
    at = strstr(plan, wanted);
    return at && (at == plan || at[-1] == ' ') ? at + strlen(wanted) : NULL;
}

/* What FAULT_SWITCH says now: HOW, or NULL. */
static const char *switched(void)
{
    static __thread char how[32];
    const char *path = getenv("FAULT_SWITCH");
    int file = path ? open(path, O_RDONLY) : -1;
    ssize_t length = file < 0 ? 0 : read(file, how, sizeof how - 1);

    if (file >= 0)
        close(file);
    how[length > 0 ? length : 0] = 0;
    return length > 0 ? how : NULL;
}

/* Whether this call fails because an earlier one has: for the calls of all processes, their numbers tell. */
static int is_dead(long number)
{
    const char *plan = getenv("FAULT_PLAN");

    if (plan && !strncmp(plan, "*:", 2) && strstr(plan, ":on") && number > atol(plan + 2))
        dead = 1;
    return dead;
}

/* Whether a template says that the attribute of FAULT_FALSE is false. */
static int says_false(const struct attribute *template, ulong_t count)
{
    ulong_t type = strtoul(getenv("FAULT_FALSE"), NULL, 0);

    for (; count--; template++)
        if (template->type == type && template->length == 1 && !*(const char *)template->value)
            return 1;
    return 0;
}

/* What FAULT_FALSE answers to this call; 0 where it says nothing. */
static ulong_t refused(int index, void *b, void *c, void *d, void *e, void *f, void *g)
{
    const char *value = getenv("FAULT_FALSE") ? strchr(getenv("FAULT_FALSE"), '=') : NULL;
    int is = value && ((index == 20 && says_false(b, (ulong_t)c)) || ((index == 58 || index == 59) && says_false(c, (ulong_t)d)) ||
                       (index == 59 && says_false(e, (ulong_t)f)) || (index == 61 && says_false(f, (ulong_t)g)));

    return is ? strtoul(value + 1, NULL, 0) : 0;
}

/* What another vendor's token would say of itself: label, manufacturer, model and serial number, and the flags behind them. */
static void disguise(unsigned char *info)
{
    const char *flags = getenv("FAULT_FLAGS"), *serial = getenv("FAULT_SERIAL");
    ulong_t *own = (ulong_t *)(info + 96);

    if (getenv("FAULT_PINPAD") && *own & TOKEN_INITIALIZED)
        *own |= PROTECTED_AUTHENTICATION_PATH;
    if (flags && *own & TOKEN_INITIALIZED)
        *own |= strtoul(flags, NULL, 0);
    if (serial)
        strncpy((char *)info + 80, serial, 16);
}

/* C_Login at a device with a PIN pad. */
static ulong_t typed(call_t call, void *session, void *user, void *pin)
{
    char text[64];
    size_t length;
    FILE *file;

    if (pin)
        return ARGUMENTS_BAD;
    if (!(file = fopen(getenv("FAULT_PINPAD"), "r")))
        return FUNCTION_CANCELED;
    length = fread(text, 1, sizeof text, file);
    fclose(file);
    return call(session, user, text, (void *)length, NULL, NULL, NULL, NULL);
}

/* What a token answers that does not report some attributes: no length for each, and a return value for the whole call. */
static ulong_t hide(struct attribute *wanted, ulong_t count, ulong_t rv)
{
    const char *hidden = getenv("FAULT_HIDE");
    char *next;

    for (; hidden && *hidden; hidden = next) {
        ulong_t type = strtoul(hidden, &next, 0), i;
        if (next == hidden)
            break;
        for (i = 0; i < count; i++)
            if (wanted[i].type == type) {
                wanted[i].length = -1UL;
                rv = rv ? rv : ATTRIBUTE_TYPE_INVALID;
            }
    }
    return rv;
}

static ulong_t through(int index, const char *name, void *a, void *b, void *c, void *d, void *e, void *f, void *g, void *h)
{
    const char *path = getenv("FAULT_LOG"), *delay = getenv("FAULT_DELAY"), *how, *end;
    call_t call = (call_t)real->functions[index];
    FILE *log = path ? fopen(path, "a") : NULL;
    long number = counted();
    ulong_t rv;

    if (log) {
        fprintf(log, "%s\n", name);
        fclose(log);
    }
    if (delay)
        usleep((useconds_t)atoi(delay));
    if (is_dead(number) && strcmp(name, "C_Finalize"))
        return DEVICE_ERROR;
    how = planned(name, ++seen[index]);
    if (!how)
        how = planned("*", number);
    if (!how && strcmp(name, "C_Finalize"))
        for (how = switched(); how && !strncmp(how, "hang", 4); how = switched())
            usleep(50000);
    if (!how && (rv = refused(index, b, c, d, e, f, g)))
        return rv;
    if (!how && index == LOGIN && getenv("FAULT_PINPAD"))
        return typed(call, a, b, c);
    if (!how) {
        rv = call(a, b, c, d, e, f, g, h);
        if (index == TOKEN_INFO && !rv)
            disguise(b);
        return index == GET_ATTRIBUTES ? hide(c, (ulong_t)d, rv) : rv;
    }
    end = how + strcspn(how, " ");
    dead = end - how > 3 && !strncmp(end - 3, ":on", 3);
    if (!strncmp(how, "before=", 7))
        return strtoul(how + 7, NULL, 0);
    if (!strncmp(how, "stop", 4))
        raise(SIGKILL);
    if (!strncmp(how, "crash", 5))
        raise(SIGSEGV);
    while (!strncmp(how, "hang", 4))
        pause();
    rv = call(a, b, c, d, e, f, g, h);
    if (!strncmp(how, "kill", 4))
        raise(SIGKILL);
    return strncmp(how, "after=", 6) ? rv : strtoul(how + 6, NULL, 0);
}

#define WRAP(index, name)                                                                                              \
    static ulong_t w_##name(void *a, void *b, void *c, void *d, void *e, void *f, void *g, void *h)                    \
    {                                                                                                                  \
        return through(index, #name, a, b, c, d, e, f, g, h);                                                          \
    }
FUNCTIONS(WRAP)

static ulong_t not_initialized(void)
{
    return 0x190;
}

static struct function_list *another_list(void)
{
    struct function_list *list = calloc(1, sizeof *list);
    int i;

    for (i = 0; list && i < SLOTS; i++)
        list->functions[i] = (void *)not_initialized;
    return list;
}

ulong_t C_GetFunctionList(void **list)
{
    if (real && getenv("FAULT_OWN_LISTS")) {
        *list = another_list();
        return *list ? 0 : 2; /* CKR_HOST_MEMORY */
    }
    if (!real) {
        /* NODELETE: the real library's exit handlers must not outlive its code. */
        void *loaded = dlopen(getenv("FAULT_REAL"), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        ulong_t (*get)(struct function_list **) = loaded ? (ulong_t(*)(struct function_list **))dlsym(loaded, "C_GetFunctionList") : NULL;
        if (!get || get(&real))
            return 5; /* CKR_GENERAL_ERROR */
        copy = *real;
#define SET(index, name) copy.functions[index] = (void *)w_##name;
        FUNCTIONS(SET)
    }
    *list = &copy;
    return 0;
}

/*
 * Copyright: (c) 2026, keyfleet.hsm contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A PKCS#11 library in front of a real one, for faults on purpose. FAULT_REAL is the real library. FAULT_PLAN holds
 * faults, separated by spaces: FUNCTION:N:HOW, where the Nth call of the function in this process
 *   before=0x30  returns that value without the real call,
 *   after=0x30   makes the real call and returns that value all the same,
 *   kill         makes the real call and ends the process with SIGKILL,
 *   crash        ends the process with SIGSEGV,
 *   hang         never returns.
 * FAULT_LOG is a file that gets one line for each call.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong_t;
typedef ulong_t (*call_t)(void *, void *, void *, void *, void *, void *, void *, void *);

/* The functions in the order of CK_FUNCTION_LIST (PKCS#11 3.1, section 5); none takes more than eight arguments. */
#define FUNCTIONS(X)                                                                                                   \
    X(0, C_Initialize) X(1, C_Finalize) X(6, C_GetTokenInfo) X(4, C_GetSlotList) X(9, C_InitToken) X(10, C_InitPIN)    \
    X(11, C_SetPIN) X(12, C_OpenSession) X(18, C_Login) X(20, C_CreateObject) X(22, C_DestroyObject)                   \
    X(24, C_GetAttributeValue) X(25, C_SetAttributeValue) X(26, C_FindObjectsInit) X(27, C_FindObjects)                \
    X(30, C_Encrypt) X(43, C_Sign) X(58, C_GenerateKey) X(59, C_GenerateKeyPair) X(60, C_WrapKey) X(61, C_UnwrapKey)
#define SLOTS 68

struct function_list {
    unsigned char version[2];
    void *functions[SLOTS];
};

static struct function_list copy;
static struct function_list *real;
static int seen[SLOTS];

static ulong_t through(int index, const char *name, void *a, void *b, void *c, void *d, void *e, void *f, void *g, void *h)
{
    const char *plan = getenv("FAULT_PLAN"), *path = getenv("FAULT_LOG");
    char wanted[128];
    call_t call = (call_t)real->functions[index];
    FILE *log = path ? fopen(path, "a") : NULL;

    if (log) {
        fprintf(log, "%s\n", name);
        fclose(log);
    }
    snprintf(wanted, sizeof wanted, "%s:%d:", name, ++seen[index]);
    for (const char *at = plan ? strstr(plan, wanted) : NULL; at; at = NULL) {
        const char *how = at + strlen(wanted);
        if (at != plan && at[-1] != ' ')
            break;
        if (!strncmp(how, "before=", 7))
            return strtoul(how + 7, NULL, 0);
        if (!strncmp(how, "crash", 5))
            raise(SIGSEGV);
        while (!strncmp(how, "hang", 4))
            pause();
        ulong_t rv = call(a, b, c, d, e, f, g, h);
        if (!strncmp(how, "kill", 4))
            raise(SIGKILL);
        if (!strncmp(how, "after=", 6))
            return strtoul(how + 6, NULL, 0);
        return rv;
    }
    return call(a, b, c, d, e, f, g, h);
}

#define WRAP(index, name)                                                                                              \
    static ulong_t w_##name(void *a, void *b, void *c, void *d, void *e, void *f, void *g, void *h)                    \
    {                                                                                                                  \
        return through(index, #name, a, b, c, d, e, f, g, h);                                                          \
    }
FUNCTIONS(WRAP)

ulong_t C_GetFunctionList(void **list)
{
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

/*
 * Copyright: (c) 2026, keyfleet.hsm contributors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What no program can do in fewer calls: one login, and one C_GenerateKey a key, or one search and one C_GetAttributeValue a key.
 * loop make|read LIBRARY LABEL PIN NUMBER
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ulong_t;
typedef ulong_t (*call_t)();

struct attribute {
    ulong_t type;
    void *value;
    ulong_t length;
};

struct function_list {
    unsigned char version[2];
    call_t functions[68]; /* in the order of PKCS#11 3.1, section 5 */
};

enum { INITIALIZE = 0, FINALIZE, SLOTS = 4, TOKEN_INFO = 6, OPEN = 12, LOGIN = 18, READ = 24, FIND_INIT = 26, FIND, FIND_FINAL, GENERATE = 58 };

static struct function_list *list;
#define CALL(index, ...) check(list->functions[index](__VA_ARGS__), #index)

static void check(ulong_t rv, const char *what)
{
    if (rv) {
        fprintf(stderr, "%s: 0x%lx\n", what, rv);
        exit(1);
    }
}

/* The slot of the token with this label, which is padded with blanks. */
static ulong_t slot_of(const char *label)
{
    ulong_t slots[64], count = 64, i;
    unsigned char info[256];
    size_t length = strlen(label);

    CALL(SLOTS, (ulong_t)1, slots, &count);
    for (i = 0; i < count; i++)
        if (!list->functions[TOKEN_INFO](slots[i], info) && !memcmp(info, label, length) && (length == 32 || info[length] == ' '))
            return slots[i];
    fprintf(stderr, "no token %s\n", label);
    exit(1);
}

/* The keys that hsm_key makes of "type: AES" and a label, with the attributes that it sets. */
static void make(ulong_t session, int number)
{
    static unsigned char yes = 1, no = 0;
    static ulong_t secret = 4, bytes = 32;
    char label[64];
    struct attribute template[] = {
        {0x000, &secret, sizeof secret}, {0x001, &yes, 1},  {0x002, &yes, 1},  {0x103, &yes, 1},           {0x162, &no, 1},  {0x104, &yes, 1},
        {0x105, &yes, 1},                {0x106, &no, 1},   {0x107, &no, 1},   {0x108, &no, 1},            {0x10a, &no, 1},  {0x10c, &no, 1},
        {0x161, &bytes, sizeof bytes},   {0x003, label, 0}, {0x102, label, 0},
    };
    struct {
        ulong_t mechanism;
        void *parameter;
        ulong_t length;
    } aes = {0x1080, NULL, 0};
    ulong_t size = sizeof template / sizeof *template, key;
    int i;

    for (i = 1; i <= number; i++) {
        template[size - 1].length = template[size - 2].length = (ulong_t)sprintf(label, "key-%d", i);
        CALL(GENERATE, session, &aes, template, size, &key);
    }
}

/* All attributes of each object that hsm_key looks at. */
static int read_all(ulong_t session)
{
    static const ulong_t types[] = {0x000, 0x100, 0x003, 0x102, 0x103, 0x162, 0x170, 0x172, 0x163, 0x086, 0x210, 0x202, 0x104,
                                    0x105, 0x106, 0x107, 0x108, 0x10a, 0x10c, 0x161, 0x090};
    static unsigned char yes = 1, room[sizeof types / sizeof *types][1024];
    struct attribute token = {0x001, &yes, 1}, template[sizeof types / sizeof *types];
    ulong_t found[16384], count = 0, more, size = sizeof types / sizeof *types, i, j;

    CALL(FIND_INIT, session, &token, (ulong_t)1);
    do {
        CALL(FIND, session, found + count, (ulong_t)512, &more);
        count += more;
    } while (more && count + 512 <= 16384);
    CALL(FIND_FINAL, session);
    for (i = 0; i < count; i++) {
        for (j = 0; j < size; j++) {
            template[j].type = types[j];
            template[j].value = room[j];
            template[j].length = sizeof room[j];
        }
        more = list->functions[READ](session, found[i], template, size);
        if (more && more != 0x11 && more != 0x12)
            check(more, "READ");
    }
    return (int)count;
}

int main(int argc, char **argv)
{
    void *library = argc == 6 ? dlopen(argv[2], RTLD_NOW) : NULL;
    ulong_t (*get)(struct function_list **) = library ? (ulong_t(*)(struct function_list **))dlsym(library, "C_GetFunctionList") : NULL;
    ulong_t session;

    if (!get || get(&list)) {
        fprintf(stderr, "usage: loop make|read LIBRARY LABEL PIN NUMBER\n");
        return 2;
    }
    CALL(INITIALIZE, NULL);
    CALL(OPEN, slot_of(argv[3]), (ulong_t)6, NULL, NULL, &session);
    CALL(LOGIN, session, (ulong_t)1, argv[4], (ulong_t)strlen(argv[4]));
    if (!strcmp(argv[1], "make"))
        make(session, atoi(argv[5]));
    else if (read_all(session) != atoi(argv[5]))
        return 3;
    CALL(FINALIZE, NULL);
    return 0;
}

/* Each object is copied to the end of the block; what points to it holds its
 * offset, and is named in a list at the very end, by which conf_unpack() makes
 * pointers of them. An offset of 0 is NULL: there lies the block's head.
 *
 * Of 500 modules most have the same folder and the same command, so each text,
 * and each list of words, is there once. Nobody writes to them. */
#include "conf/pack.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fnv.h"
#include "base/util.h"

#define PACK_MAGIC 0x6b63615061726443ull
#define PACK_ALIGN 16u
#define PACK_MAX   (256u << 20)

struct head {
    uint64_t magic;
    uint64_t len;       /* of the block */
    uint64_t places_at; /* of uint32_t: where pointers are */
    uint64_t n_places;
};

#define CONF_AT ROUND_UP(sizeof(struct head), PACK_ALIGN)

struct list {
    char *bytes;
    size_t len, room;
};

/* What is in the block once, by a hash of its bytes; LEN 0: a free place. */
struct known {
    size_t at, len;
    uint64_t hash;
};

struct pack {
    struct list block, places;
    struct known *known; /* N_ROOM places, a power of two */
    size_t n_known, n_room;
    bool failed;
};

/* Room for LEN bytes at the end of LIST, at a multiple of ALIGN, zeroed up to
 * it; its offset. */
static size_t
add_at(struct pack *p, struct list *list, const void *bytes, size_t len,
       size_t align)
{
    size_t at = ROUND_UP(list->len, align);
    size_t room = list->room;

    if (p->failed || len > PACK_MAX - MIN_OF(at, PACK_MAX)) {
        /* not reached: more than files can say */
        p->failed = true;
        return 0;
    }
    while (room < at + len) {
        room = MAX_OF(2 * room, 4096u);
    }
    if (room > list->room) {
        char *larger = realloc(list->bytes, room);

        if (larger == NULL) {
            /* not reached: memory is gone */
            p->failed = true;
            return 0;
        }
        list->bytes = larger;
        list->room = room;
    }
    memset(list->bytes + list->len, 0, at - list->len);
    if (bytes != NULL) {
        memcpy(list->bytes + at, bytes, len);
    } else {
        memset(list->bytes + at, 0, len);
    }
    list->len = at + len;
    return at;
}

static size_t
add(struct pack *p, struct list *list, const void *bytes, size_t len)
{
    return add_at(p, list, bytes, len, list == &p->block ? PACK_ALIGN : 1);
}

/* Makes room for one more that is known. */
static void
grow_known(struct pack *p)
{
    size_t room = p->n_room > 0 ? 2 * p->n_room : 256;
    struct known *larger;

    if (2 * p->n_known < p->n_room) {
        return;
    }
    larger = calloc(room, sizeof(*larger));
    if (larger == NULL) {
        /* not reached: memory is gone */
        p->failed = true;
        return;
    }
    for (size_t i = 0; i < p->n_room; i++) {
        size_t to = p->known[i].hash & (room - 1);

        while (p->known[i].len > 0 && larger[to].len > 0) {
            to = (to + 1) & (room - 1);
        }
        if (p->known[i].len > 0) {
            larger[to] = p->known[i];
        }
    }
    free(p->known);
    p->known = larger;
    p->n_room = room;
}

/* The offset of LEN bytes like these, which nobody writes to; added, at a
 * multiple of ALIGN, if they are not there. *P_NEW: they were not. */
static size_t
add_once(struct pack *p, const void *bytes, size_t len, size_t align,
         bool *p_new)
{
    uint64_t hash = fnv_add(FNV_BASIS, bytes, len);
    size_t i;

    *p_new = false;
    grow_known(p);
    if (p->failed) {
        /* not reached: memory is gone */
        return 0;
    }
    for (i = hash & (p->n_room - 1); p->known[i].len > 0;
         i = (i + 1) & (p->n_room - 1)) {
        const struct known *k = &p->known[i];

        if (k->hash == hash && k->len == len && k->at % align == 0 &&
            memcmp(p->block.bytes + k->at, bytes, len) == 0) {
            return k->at;
        }
    }
    *p_new = true;
    p->known[i] =
        (struct known){add_at(p, &p->block, bytes, len, align), len, hash};
    p->n_known++;
    return p->known[i].at;
}

/* The pointer at offset SLOT leads to offset AT. */
static void
lead(struct pack *p, size_t slot, size_t at)
{
    uint32_t place = (uint32_t)slot; /* below PACK_MAX */
    uint64_t value = at;

    if (p->failed) {
        /* not reached: memory is gone */
        return;
    }
    memcpy(p->block.bytes + slot, &value, sizeof(void *));
    if (at != 0) {
        add(p, &p->places, &place, sizeof(place));
    }
}

/* The pointer at offset SLOT leads to LEN bytes like those at FROM. Their
 * offset. */
static size_t
point(struct pack *p, size_t slot, const void *from, size_t len)
{
    size_t at = from != NULL ? add(p, &p->block, from, len) : 0;

    lead(p, slot, at);
    return at;
}

static void
text(struct pack *p, size_t slot, const char *from)
{
    bool is_new;

    lead(p, slot,
         from != NULL ? add_once(p, from, strlen(from) + 1, 1, &is_new) : 0);
}

/* A member that is a text: of the object at offset AT, like FROM. */
#define TEXT(p, at, type, member, from)                                        \
    text(p, (at) + offsetof(type, member), (from)->member)

static void
pack_words(struct pack *p, size_t slot, char *const *words)
{
    CLEAN_FREE uint64_t *offsets = NULL;
    size_t n = 0;
    bool is_new;
    size_t at;

    while (words != NULL && words[n] != NULL) {
        n++;
    }
    if (words != NULL) {
        offsets = calloc(n + 1, sizeof(*offsets));
        p->failed |= offsets == NULL;
    }
    if (p->failed || words == NULL) {
        /* not reached: memory is gone */
        lead(p, slot, 0);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        offsets[i] = add_once(p, words[i], strlen(words[i]) + 1, 1, &is_new);
    }
    at = add_once(p, offsets, (n + 1) * sizeof(*offsets), PACK_ALIGN, &is_new);
    lead(p, slot, at);
    for (size_t i = 0; is_new && i < n; i++) {
        lead(p, at + i * sizeof(*offsets), offsets[i]);
    }
}

static void
pack_entries(struct pack *p, size_t at, const struct conf_entries *from)
{
    size_t list = point(p, at + offsetof(struct conf_entries, list), from->list,
                        from->n * sizeof(*from->list));

    for (size_t i = 0; i < from->n; i++) {
        size_t entry = list + i * sizeof(*from->list);

        TEXT(p, entry, struct conf_entry, name, &from->list[i]);
        TEXT(p, entry, struct conf_entry, value, &from->list[i]);
    }
}

/* Most have none. */
static void
pack_amounts(struct pack *p, size_t at, const struct conf_module *m)
{
    bool any = false, is_new;

    for (size_t i = 0; i < CONF_AMOUNTS; i++) {
        any |= conf_amount(m, (enum conf_amount)i) > 0;
    }
    lead(p, at + offsetof(struct conf_module, amounts),
         any ? add_once(p, m->amounts, CONF_AMOUNTS * sizeof(*m->amounts),
                        PACK_ALIGN, &is_new)
             : 0);
}

static void
pack_module(struct pack *p, size_t at, const struct conf_module *m)
{
    TEXT(p, at, struct conf_module, name, m);
    pack_words(p, at + offsetof(struct conf_module, argv), m->argv);
    pack_amounts(p, at, m);
    lead(p, at + offsetof(struct conf_module, wheres), 0);
    lead(p, at + offsetof(struct conf_module, amount_wheres), 0);
    TEXT(p, at, struct conf_module, address, m);
    TEXT(p, at, struct conf_module, root, m);
    TEXT(p, at, struct conf_module, index, m);
    TEXT(p, at, struct conf_module, app, m);
    TEXT(p, at, struct conf_module, python, m);
    TEXT(p, at, struct conf_module, user, m);
    TEXT(p, at, struct conf_module, group, m);
    TEXT(p, at, struct conf_module, folder, m);
    pack_entries(p, at + offsetof(struct conf_module, environment),
                 &m->environment);
    pack_entries(p, at + offsetof(struct conf_module, secrets), &m->secrets);
    pack_entries(p, at + offsetof(struct conf_module, reads), &m->reads);
    pack_entries(p, at + offsetof(struct conf_module, writes), &m->writes);
}

static void
pack_listen(struct pack *p, size_t at, const struct conf_listen *l)
{
    size_t routes = point(p, at + offsetof(struct conf_listen, routes),
                          l->routes, l->n_routes * sizeof(*l->routes));

    TEXT(p, at, struct conf_listen, text, l);
    for (size_t i = 0; i < l->n_routes; i++) {
        size_t route = routes + i * sizeof(*l->routes);

        TEXT(p, route, struct conf_route, method, &l->routes[i]);
        TEXT(p, route, struct conf_route, path, &l->routes[i]);
        lead(p, route + offsetof(struct conf_route, wheres), 0);
    }
    for (size_t i = 0; i < CONF_METHODS_MAX; i++) {
        text(p,
             at + offsetof(struct conf_listen, methods[0]) +
                 i * sizeof(l->methods[0]),
             i < l->n_methods ? l->methods[i] : NULL);
    }
}

static void
pack_files(struct pack *p, size_t at, const struct conf *conf)
{
    size_t files = point(p, at + offsetof(struct conf, files), conf->files,
                         conf->n_files * sizeof(*conf->files));

    for (size_t i = 0; i < conf->n_files; i++) {
        size_t file = files + i * sizeof(*conf->files);

        TEXT(p, file, struct conf_input, name, &conf->files[i]);
        TEXT(p, file, struct conf_input, path, &conf->files[i]);
        TEXT(p, file, struct conf_input, folder, &conf->files[i]);
    }
}

static void
pack_conf(struct pack *p, const struct conf *conf)
{
    struct conf most = *conf;
    size_t at;
    size_t list;

    most.left_out = NULL;
    most.macros = NULL;
    most.settings = NULL;
    most.block = NULL;
    most.n_left_out = most.n_macros = 0;
    at = add(p, &p->block, &most, sizeof(most));
    TEXT(p, at, struct conf, file, conf);
    TEXT(p, at, struct conf, folder, conf);
    TEXT(p, at, struct conf, domain, conf);
    TEXT(p, at, struct conf, metrics, conf);
    TEXT(p, at, struct conf, user, conf);
    TEXT(p, at, struct conf, run_folder, conf);
    TEXT(p, at, struct conf, state_folder, conf);
    pack_files(p, at, conf);
    list = point(p, at + offsetof(struct conf, listens), conf->listens,
                 conf->n_listens * sizeof(*conf->listens));
    for (size_t i = 0; i < conf->n_listens; i++) {
        pack_listen(p, list + i * sizeof(*conf->listens), &conf->listens[i]);
    }
    list = point(p, at + offsetof(struct conf, modules), conf->modules,
                 conf->n_modules * sizeof(*conf->modules));
    for (size_t i = 0; i < conf->n_modules; i++) {
        pack_module(p, list + i * sizeof(*conf->modules), &conf->modules[i]);
    }
    list = point(p, at + offsetof(struct conf, targets), conf->targets,
                 conf->n_targets * sizeof(*conf->targets));
    for (size_t i = 0; i < conf->n_targets; i++) {
        TEXT(p, list + i * sizeof(*conf->targets), struct conf_target, path,
             &conf->targets[i]);
    }
}

/* The finished block, or NULL; P is empty then. */
static void *
finish(struct pack *p, size_t *p_len)
{
    struct head head = {.magic = PACK_MAGIC,
                        .n_places = p->places.len / sizeof(uint32_t)};
    void *block = NULL;

    head.places_at = add(p, &p->block, p->places.bytes, p->places.len);
    if (!p->failed) {
        head.len = p->block.len;
        memcpy(p->block.bytes, &head, sizeof(head));
        *p_len = p->block.len;
        block = p->block.bytes;
    } else {
        /* not reached: memory is gone */
        free(p->block.bytes);
    }
    free(p->places.bytes);
    free(p->known);
    *p = (struct pack){0};
    return block;
}

void *
conf_pack(const struct conf *conf, size_t *p_len)
{
    struct pack p = {0};

    add(&p, &p.block, NULL, CONF_AT);
    pack_conf(&p, conf);
    return finish(&p, p_len);
}

static bool
is_pack(const struct head *head, size_t len)
{
    return len >= CONF_AT + sizeof(struct conf) && head->magic == PACK_MAGIC &&
           head->len == len && head->places_at <= len &&
           head->places_at % sizeof(uint32_t) == 0 &&
           head->n_places <= (len - head->places_at) / sizeof(uint32_t);
}

/* Of BYTES, LEN of them: the pointers at PLACES, N of them, are made so. false:
 * they cannot be. */
static bool
relocate(char *bytes, size_t len, const char *places, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t place;
        uint64_t to;
        char *pointer;

        memcpy(&place, places + i * sizeof(place), sizeof(place));
        if (place > len - sizeof(to)) {
            /* not reached: sealed by the keeper, whose list is right */
            return false;
        }
        memcpy(&to, bytes + place, sizeof(to));
        if (to >= len) {
            /* not reached: the same */
            return false;
        }
        pointer = bytes + to;
        memcpy(bytes + place, &pointer, sizeof(pointer));
    }
    return true;
}

struct conf *
conf_unpack(void *block, size_t len)
{
    struct head head = {0};
    char *bytes = block;

    if (len >= sizeof(head)) {
        memcpy(&head, block, sizeof(head));
    }
    if (!is_pack(&head, len)) {
        return NULL;
    }
    return relocate(bytes, head.places_at, bytes + head.places_at,
                    head.n_places)
               ? (struct conf *)(void *)(bytes + CONF_AT)
               : NULL;
}

struct conf *
conf_compact(struct conf *take_conf)
{
    size_t len = 0;
    CLEAN_FREE char *packed = conf_pack(take_conf, &len);
    const struct head *head = (const void *)packed;
    char *block = packed != NULL ? malloc(head->places_at) : NULL;
    struct conf *conf;

    if (block == NULL) {
        /* not reached: memory is gone */
        return take_conf;
    }
    /* The list of pointers is of no use any more. */
    memcpy(block, packed, head->places_at);
    (void)relocate(block, head->places_at, packed + head->places_at,
                   head->n_places);
    conf = (struct conf *)(void *)(block + CONF_AT);
    conf->block = block;
    conf_free(take_conf);
    return conf;
}

static void *
pack_alone(const struct conf_module *m, size_t *p_len)
{
    struct conf_module nowhere = *m;
    struct pack p = {0};
    size_t at;

    nowhere.where = (struct conf_where){0};
    nowhere.presence = CONF_LIVE;
    add(&p, &p.block, NULL, CONF_AT);
    at = add(&p, &p.block, &nowhere, sizeof(nowhere));
    pack_module(&p, at, &nowhere);
    return finish(&p, p_len);
}

/* The places of entries are in the block, and no difference. */
static bool
same_but_entries(const struct conf_module *a, const struct conf_module *b)
{
    size_t a_len = 0, b_len = 0;
    CLEAN_FREE void *x = pack_alone(a, &a_len);
    CLEAN_FREE void *y = pack_alone(b, &b_len);

    return x != NULL && y != NULL && a_len == b_len && memcmp(x, y, a_len) == 0;
}

bool
conf_same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_entries(const struct conf_entries *a, const struct conf_entries *b)
{
    for (size_t i = 0; a->n == b->n && i < a->n; i++) {
        if (!conf_same_text(a->list[i].name, b->list[i].name) ||
            !conf_same_text(a->list[i].value, b->list[i].value)) {
            return false;
        }
    }
    return a->n == b->n;
}

bool
conf_same_module(const struct conf_module *a, const struct conf_module *b)
{
    struct conf_module x = *a, y = *b;
    struct conf_entries none = {0};

    x.environment = x.secrets = x.reads = x.writes = none;
    y.environment = y.secrets = y.reads = y.writes = none;
    /* What only workers read makes no other process of it. */
    x.queue = y.queue = 0;
    x.set &= ~(1u << CONF_OPTION_QUEUE);
    y.set &= ~(1u << CONF_OPTION_QUEUE);
    return same_entries(&a->environment, &b->environment) &&
           same_entries(&a->secrets, &b->secrets) &&
           same_entries(&a->reads, &b->reads) &&
           same_entries(&a->writes, &b->writes) && same_but_entries(&x, &y);
}

/* Two kinds: a system's unit gets every wall that systemd has and that Cardea
 * and its programs can live with; a user's manager can only give those that
 * need no right of root's, so without walls made of mounts.
 *
 * Open stays what the configuration asks for: ports below 1024, users of
 * modules, folders that modules may write to; and memory that is written and
 * then executed where an interpreter compiles as it runs. */
#include "ctl/unit.h"

#include <netinet/in.h>
#include <string.h>

#include "base/util.h"
#include "conf/conf.h"

#define MODULE_GRACE_S 10 /* of keeper and modules, beyond that of requests */

/* What the configuration needs. */
struct needs {
    bool low_port, other_user, compiles, home;
};

static bool
is_in_home(const char *path)
{
    return path != NULL &&
           (strncmp(path, "/home/", 6) == 0 || strncmp(path, "/root/", 6) == 0);
}

static void
needs_of_modules(const struct conf *conf, struct needs *needs)
{
    for (size_t i = 0; i < conf->n_modules; i++) {
        const struct conf_module *module = &conf->modules[i];

        needs->other_user =
            needs->other_user || module->user != NULL || module->group != NULL;
        /* of commands nobody knows what interpreter they begin */
        needs->compiles = needs->compiles || module->kind != CONF_MODULE_RUN;
        needs->home = needs->home || is_in_home(module->folder) ||
                      is_in_home(module->root) || is_in_home(module->app) ||
                      (module->argv != NULL && is_in_home(module->argv[0]));
    }
}

static struct needs
needs_of(const struct unit *unit, const struct conf *conf)
{
    struct needs needs = {.home = is_in_home(unit->file)};

    for (size_t i = 0; i < conf->n_listens; i++) {
        const struct sockaddr_storage *addr = &conf->listens[i].addr;
        int port = addr->ss_family == AF_INET
                       ? ntohs(((const struct sockaddr_in *)addr)->sin_port)
                   : addr->ss_family == AF_INET6
                       ? ntohs(((const struct sockaddr_in6 *)addr)->sin6_port)
                       : 0;

        needs.low_port = needs.low_port || (port > 0 && port < 1024);
    }
    for (size_t i = 0; i < conf->n_targets; i++) {
        needs.home = needs.home || is_in_home(conf->targets[i].path);
    }
    needs_of_modules(conf, &needs);
    return needs;
}

/* TEXT as one word of systemd.syntax(7). IS_COMMAND: of ExecStart=, where a '$'
 * would be a variable. */
static void
print_word(const char *text, bool is_command, FILE *out)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        } else if (*text == '%' || (*text == '$' && is_command)) {
            fputc(*text, out);
        }
        fputc(*text, out);
    }
    fputc('"', out);
}

/* However often the keeper dies, it is started again; but a fault in the file,
 * that `run` tells of as `check` does (78), needs a person. */
static void
print_service(const struct unit *unit, const struct conf *conf, FILE *out)
{
    fputs("[Service]\n"
          "Type=notify\n"
          "ExecStart=",
          out);
    print_word(unit->program, true, out);
    fputs(" run -f ", out);
    print_word(unit->file, true, out);
    fputs("\nExecReload=", out);
    print_word(unit->program, true, out);
    fputs(" reload -f ", out);
    print_word(unit->file, true, out);
    fprintf(out,
            "\n"
            "KillMode=mixed\n"
            "TimeoutStopSec=%llu\n"
            "WatchdogSec=30\n"
            "Restart=on-failure\n"
            "RestartSec=200ms\n"
            "RestartPreventExitStatus=78\n"
            "LimitNOFILE=131072\n"
            "Delegate=yes\n",
            conf->grace_ns / NS_PER_SEC + MODULE_GRACE_S);
}

/* Who it runs as. A file of root's gets a user of its own; with modules of
 * other users Cardea itself has to be root, to become them. */
static void
print_user(const struct unit *unit, const struct needs *needs, FILE *out)
{
    const char *port = needs->low_port ? "CAP_NET_BIND_SERVICE" : "";

    fputs("\n# Who it is, and what it may\n", out);
    if (needs->other_user) {
        fprintf(out,
                "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_KILL "
                "CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_SYS_RESOURCE%s%s\n",
                port[0] != '\0' ? " " : "", port);
        return;
    }
    if (unit->user != NULL) {
        fprintf(out, "User=%s\n", unit->user);
    } else {
        fputs("DynamicUser=yes\n", out);
    }
    fprintf(out, "CapabilityBoundingSet=%s\nAmbientCapabilities=%s\n", port,
            port);
}

/* Walls of mounts: only root's manager has them. */
static void
print_walls(const struct conf *conf, const struct needs *needs, FILE *out)
{
    fputs("\n# What it sees: all that a program is to write is named by\n"
          "# \"write\" in the configuration, or here by ReadWritePaths=\n"
          "StateDirectory=cardea\n"
          "RuntimeDirectory=cardea-service\n"
          "Environment=XDG_RUNTIME_DIR=%t/cardea-service\n"
          "ProtectSystem=strict\n",
          out);
    fprintf(out, "ProtectHome=%s\n", needs->home ? "read-only" : "yes");
    for (size_t i = 0; i < conf->n_modules; i++) {
        const struct conf_entries *writes = &conf->modules[i].writes;

        for (size_t j = 0; j < writes->n; j++) {
            fputs("ReadWritePaths=", out);
            print_word(writes->list[j].value, false, out);
            fputc('\n', out);
        }
    }
    fputs("PrivateTmp=yes\n"
          "PrivateDevices=yes\n"
          "ProtectClock=yes\n"
          "ProtectHostname=yes\n"
          "ProtectKernelLogs=yes\n"
          "ProtectKernelModules=yes\n"
          "ProtectKernelTunables=yes\n"
          "ProtectProc=invisible\n"
          "RemoveIPC=yes\n",
          out);
}

/* Filters of system calls: every user's manager has them. */
static void
print_filters(const struct needs *needs, FILE *out)
{
    fputs("\n# What it can ask of the kernel\n"
          "NoNewPrivileges=yes\n"
          "LockPersonality=yes\n",
          out);
    if (!needs->compiles) {
        fputs("MemoryDenyWriteExecute=yes\n", out);
    }
    fputs("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"
          "RestrictNamespaces=yes\n"
          "RestrictRealtime=yes\n"
          "RestrictSUIDSGID=yes\n"
          "SystemCallArchitectures=native\n"
          "SystemCallErrorNumber=EPERM\n"
          "SystemCallFilter=@system-service landlock_create_ruleset "
          "landlock_add_rule landlock_restrict_self\n",
          out);
    if (!needs->other_user) {
        /* its own folders it gives to itself */
        fputs("SystemCallFilter=~@privileged\nSystemCallFilter=@chown\n", out);
    }
}

void
unit_print(const struct unit *unit, const struct conf *conf, FILE *out)
{
    const struct needs needs = needs_of(unit, conf);

    fputs("# Written by cardea save.\n"
          "[Unit]\n"
          "Description=Cardea\n"
          "Documentation=man:cardea(1) man:cardea.conf(5)\n"
          "StartLimitIntervalSec=0\n",
          out);
    if (unit->is_system) {
        fputs("After=network.target\n", out);
    }
    fputc('\n', out);
    print_service(unit, conf, out);
    if (unit->is_system) {
        print_user(unit, &needs, out);
        print_walls(conf, &needs, out);
    }
    print_filters(&needs, out);
    fprintf(out, "\n[Install]\nWantedBy=%s\n",
            unit->is_system ? "multi-user.target" : "default.target");
}

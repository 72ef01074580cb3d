/* completion bash|zsh: prints what completes cardea's words in that shell, from
 * the table that the program itself reads. Run by the build. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "ctl/chaos-targets.h"
#include "ctl/ctl.h"

static const struct {
    const char *name, *operands, *line;
} verbs[] = {
#define VERB(name, operands, line, text) {#name, operands, line},
#define OPTION(verb, flag, argument, what, text)
#include "ctl/verbs.def"
#undef VERB
#undef OPTION
};

#define X(id, word) word " "
#define ROLES       CHAOS_ROLES(X)

static const struct {
    const char *verb, *flag, *argument, *text;
} options[] = {
#define VERB(name, operands, line, text)
#define OPTION(verb, flag, argument, what, text) {#verb, flag, argument, text},
#include "ctl/verbs.def"
#undef VERB
#undef OPTION
};

static void
print_verbs(void)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        printf("%s%s", i > 0 ? " " : "", verbs[i].name);
    }
}

static void
bash_flags(const char *verb)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (strcmp(options[i].verb, verb) == 0) {
            printf("%s ", options[i].flag);
        }
    }
    fputs("--help", stdout);
}

#define BASH_FILE                                                              \
    "        local -a file=()\n"                                               \
    "        local i n=0\n"                                                    \
    "        for ((i = 2; i < COMP_CWORD; i++)); do\n"                         \
    "            case ${COMP_WORDS[i]} in\n"                                   \
    "            -f) ((i++)); file=(-f \"${COMP_WORDS[i]}\") ;;\n"             \
    "            -*) ;;\n"                                                     \
    "            *) ((n++)) ;;\n"                                              \
    "            esac\n"                                                       \
    "        done\n"
#define BASH_MODULES                                                           \
    "words+=\" $(\"${COMP_WORDS[0]}\" status --modules \"${file[@]}\""         \
    " </dev/null 2>/dev/null)\""

/* The first operand is a module that runs, or a path; then a method or a file;
 * then the path of a request, which nobody can know. What the server says are
 * names without any byte that the shell would expand (ask.c). */
static const char bash_door[] = BASH_FILE
    "        case $n in\n"
    "        0) " BASH_MODULES " ;;\n"
    "        1) words+=\" GET HEAD POST PUT DELETE PATCH OPTIONS\" ;;\n"
    "        2) return ;;\n"
    "        esac\n";

/* The only operand is a module that runs, or an id that nobody can know. */
static const char bash_app[] =
    BASH_FILE "        [ \"$n\" -gt 0 ] || " BASH_MODULES "\n";

static void
bash(void)
{
    fputs("# bash completion of cardea(1)\n"
          "_cardea()\n"
          "{\n"
          "    local word=${COMP_WORDS[COMP_CWORD]}\n"
          "    local before=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local verb=${COMP_WORDS[1]}\n"
          "    local words=\n"
          "    COMPREPLY=()\n"
          "    if [ \"$COMP_CWORD\" -le 1 ]; then\n"
          "        COMPREPLY=($(compgen -W \"",
          stdout);
    print_verbs();
    fputs(" --help --version\" -- \"$word\"))\n"
          "        return\n"
          "    fi\n"
          "    case $verb:$before in\n",
          stdout);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (strcmp(options[i].argument, "FILE") == 0) {
            printf("    %s:%s)\n"
                   "        mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
                   "        return ;;\n",
                   options[i].verb, options[i].flag);
        } else if (options[i].argument[0] != '\0') {
            printf("    %s:%s)\n        return ;;\n", options[i].verb,
                   options[i].flag);
        }
    }
    fputs("    esac\n"
          "    case $verb in\n",
          stdout);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        printf("    %s)\n        words=\"", verbs[i].name);
        bash_flags(verbs[i].name);
        if (strstr(verbs[i].operands, "VERB") != NULL) {
            fputs(" ", stdout);
            print_verbs();
        }
        if (strstr(verbs[i].operands, "ROLE") != NULL) {
            fputs(" " ROLES, stdout);
        }
        fputs("\"\n", stdout);
        if (strstr(verbs[i].operands, "DOOR") != NULL) {
            fputs(bash_door, stdout);
        }
        if (strstr(verbs[i].operands, "APP") != NULL) {
            fputs(bash_app, stdout);
        }
        fputs("        ;;\n", stdout);
    }
    fputs("    esac\n"
          "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
          "    case $verb in\n",
          stdout);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strstr(verbs[i].operands, "FILE") != NULL) {
            printf("    %s)\n"
                   "        mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(\n"
                   "            compgen -f -- \"$word\") ;;\n",
                   verbs[i].name);
        }
    }
    fputs("    esac\n"
          "}\n"
          "complete -o filenames -F _cardea cardea\n",
          stdout);
}

/* Text within a quoted word of zsh's _arguments. */
static void
zsh_text(const char *text)
{
    for (const char *s = text; *s != '\0'; s++) {
        if (strchr("[]:\\", *s) != NULL) {
            fputc('\\', stdout);
        }
        if (*s == '\'') {
            fputs("'\\''", stdout);
        } else {
            fputc(*s == '\n' ? ' ' : *s, stdout);
        }
    }
}

static void
zsh_verb(size_t verb)
{
    printf("    %s)\n        _arguments", verbs[verb].name);
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        if (strcmp(options[i].verb, verbs[verb].name) != 0) {
            continue;
        }
        fputs(" \\\n            '", stdout);
        printf("%s%s[", options[i].flag,
               options[i].argument[0] == '\0' ? ""
               : options[i].flag[1] == '-'    ? "="
                                              : "+");
        zsh_text(options[i].text);
        fputs("]", stdout);
        if (options[i].argument[0] != '\0') {
            printf(":%s:%s", options[i].argument,
                   strcmp(options[i].argument, "FILE") == 0 ? "_files" : "");
        }
        fputs("'", stdout);
    }
    fputs(" \\\n            '--help[explain this verb]'", stdout);
    if (strstr(verbs[verb].operands, "FILE") != NULL) {
        fputs(" \\\n            '*:file:_files'", stdout);
    } else if (strstr(verbs[verb].operands, "VERB") != NULL) {
        fputs(" \\\n            '1:verb:(", stdout);
        print_verbs();
        fputs(")'", stdout);
    } else if (strstr(verbs[verb].operands, "ROLE") != NULL) {
        fputs(" \\\n            '1:role:(" ROLES ")'", stdout);
    }
    fputs("\n        ;;\n", stdout);
}

static void
zsh(void)
{
    fputs("#compdef cardea\n"
          "# zsh completion of cardea(1)\n"
          "_cardea()\n"
          "{\n"
          "    local -a verbs\n"
          "    verbs=(\n",
          stdout);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        printf("        '%s:", verbs[i].name);
        zsh_text(verbs[i].line);
        fputs("'\n", stdout);
    }
    fputs("    )\n"
          "    if (( CURRENT == 2 )); then\n"
          "        _describe verb verbs\n"
          "        return\n"
          "    fi\n"
          "    shift words\n"
          "    (( CURRENT-- ))\n"
          "    case $words[1] in\n",
          stdout);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        zsh_verb(i);
    }
    fputs("    esac\n"
          "}\n"
          "_cardea \"$@\"\n",
          stdout);
}

int
main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "bash") == 0) {
        bash();
    } else if (argc == 2 && strcmp(argv[1], "zsh") == 0) {
        zsh();
    } else {
        fputs("usage: completion bash|zsh\n", stderr);
        return CTL_USAGE;
    }
    return fflush(stdout) == 0 ? CTL_OK : CTL_FAILED;
}

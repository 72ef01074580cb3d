/* Probes of what confines: workers, which confine themselves, and modules, by
 * what their blocks say (docs/isolation.md). */
#include "ctl/doctor.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "module/cgroup.h"
#include "module/sandbox.h"

/* What a version of Landlock leaves open, though a module's paths are named. */
static const char *
landlock_lacks(int version)
{
    return version < 2   ? "; files cannot change their folder (Linux 5.19)"
           : version < 3 ? "; files can be truncated (Linux 6.2)"
           : version < 5 ? "; ioctl of devices is not refused (Linux 6.10)"
           : version < 6 ? "; signals to others are not refused (Linux 6.12)"
                         : "";
}

static bool
can_lock_privileges(void)
{
    pid_t pid = fork();
    int status = 1;

    if (pid == 0) {
        _exit(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

void
probe_confinement(struct doctor *d)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;
    int version = sandbox_version();

    if (version > 0) {
        doctor_say(d, DOCTOR_OK, "landlock", NULL, "version %d%s", version,
                   landlock_lacks(version));
    } else {
        doctor_say(d, DOCTOR_INFO, "landlock",
                   "run Linux 5.13 or newer with landlock in the boot "
                   "parameter lsm=; allow the call in the container",
                   "not here: read and write of modules do nothing");
    }
    if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0) {
        doctor_say(d, DOCTOR_OK, "seccomp", NULL, "filters can be set");
    } else {
        doctor_say(d, DOCTOR_INFO, "seccomp", NULL,
                   "not here: workers are confined without it");
    }
    if (can_lock_privileges()) {
        doctor_say(d, DOCTOR_OK, "no-new-privs", NULL,
                   "workers and modules can give up privileges for good");
    } else {
        doctor_say(d, DOCTOR_FAIL, "no-new-privs", SECCOMP_MEND,
                   "privileges cannot be given up for good: no module starts");
    }
}

void
probe_users(struct doctor *d)
{
    if (doctor_has_capability(CAP_SETUID) &&
        doctor_has_capability(CAP_SETGID)) {
        doctor_say(d, DOCTOR_OK, "other-users", NULL,
                   "modules can run under other users and groups");
    } else {
        doctor_say(d, DOCTOR_INFO, "other-users",
                   "for user and group in a module: start as root, or with "
                   "AmbientCapabilities=CAP_SETUID CAP_SETGID in the unit",
                   "modules run under this user and group");
    }
}

#define CGROUP_MEND                                                            \
    "Delegate=yes in the unit of systemd, or a cgroup namespace of its own "   \
    "for the container"

void
probe_groups(struct doctor *d)
{
    struct cgroup group;
    int rc = cgroup_init(&group, false);
    char path[PATH_MAX];
    char file[PATH_MAX + 32];
    char text[512];
    bool memory, pids;

    if (rc < 0) {
        doctor_say(d, DOCTOR_INFO, "module-cgroups",
                   rc == -ENOENT ? "mount -t cgroup2 none /sys/fs/cgroup"
                                 : CGROUP_MEND,
                   "modules get no control group (%s): limits hold for each "
                   "process, and what leaves its process group may stay",
                   strerrordesc_np(-rc));
        return;
    }
    cgroup_deinit(&group);
    if (cgroup_find(path, sizeof(path)) < 0) {
        return;
    }
    snprintf(file, sizeof(file), "%s/cgroup.controllers", path);
    if (!doctor_read(file, text, sizeof(text))) {
        text[0] = '\0';
    }
    memory = strstr(text, "memory") != NULL;
    pids = strstr(text, "pids") != NULL;
    doctor_say(d, DOCTOR_OK, "module-cgroups", NULL,
               "modules get control groups%s%s", memory ? ", with memory" : "",
               pids ? ", with pids" : "");
}

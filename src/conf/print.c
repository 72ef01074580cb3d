/* A configuration as text again. */
#include "conf/conf.h"

void
conf_print(const struct conf *conf, FILE *out)
{
    fprintf(out, "# read: %s\n", conf->file);
}

/* The procedure that stands between a door and a cardea.h handler. */
#pragma once

struct door_task;

/* COOKIE points to a cardea_handler *. */
void app_procedure(void *cookie, struct door_task *task);

/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The text of a server list: an accepted list has a stored form, which is accepted and stored unchanged.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "gman/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct address first[LIST_MAX], second[LIST_MAX];
    char *message = malloc(80), *text = malloc(LIST_MAX * ADDRESS_MAX);
    if (!message || !text)
        abort();
    int count = address_list_parse((struct slice){(const char *)data, size}, first, message, 80);
    if (count < 0 && (strlen(message) == 0 || strlen(message) >= 80))
        abort();
    size_t length = 0;
    for (int i = 0; i < count; i++) {
        if (i)
            text[length++] = ',';
        memcpy(text + length, first[i].text, strlen(first[i].text));
        length += strlen(first[i].text);
    }
    if (count >= 0) {
        if (address_list_parse((struct slice){text, length}, second, message, 80) != count)
            abort();
        for (int i = 0; i < count; i++)
            if (strcmp(first[i].text, second[i].text) != 0 || first[i].numeric != second[i].numeric)
                abort();
    }
    free(text);
    free(message);
    return 0;
}

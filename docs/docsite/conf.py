# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx' settings for `make docs`; tests/docs has put the pages in place."""

from __future__ import annotations

from docutils import nodes

project = "gearsync.mysql_redis"
project_copyright = "The gearsync developers"
html_title = "gearsync.mysql_redis"
extensions = ["myst_parser", "sphinx_antsibull_ext"]
pygments_style = "ansible"
html_theme = "alabaster"
html_theme_options = {"page_width": "1200px", "fixed_sidebar": True}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
html_copy_source = False
# The README's and the guides' own anchors, as GitHub makes them.
myst_heading_anchors = 6
# A reference that leads nowhere is a warning, and a warning ends the build.
nitpicky = True
default_role = "any"

#: Pages of Ansible's own documentation that those of modules refer to. Its whole inventory would have to be
#: fetched.
ANSIBLE = "https://docs.ansible.com/projects/ansible/latest/"
PAGES = {
    "common_return_values": "reference_appendices/common_return_values.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "ansible_collections.ansible.builtin.apt_module": "collections/ansible/builtin/apt_module.html",
    "ansible_collections.ansible.builtin.dnf_module": "collections/ansible/builtin/dnf_module.html",
}


def refer_to_ansible(_app, _env, node, text):
    """The link of a reference to Ansible's documentation."""
    page = PAGES.get(node["reftarget"].partition("__parameter-")[0])
    return page and nodes.reference("", "", text, internal=False, refuri=ANSIBLE + page)


def setup(app):
    """Called by Sphinx."""
    app.connect("missing-reference", refer_to_ansible)

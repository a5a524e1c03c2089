# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the steps of a test run side by side and judges them by what they left, not by what they did not
say.
"""

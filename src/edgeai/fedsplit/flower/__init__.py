"""fedsplit on Flower, the only package that imports it: engines, the device program, apps to export.

`transport` carries messages between server and devices; `local_deployment` runs SuperLink and SuperNodes here.
"""

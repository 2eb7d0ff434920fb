"""Where labelled images come from, a file each: functions that ``data.source._target_`` names.

Such a function returns :class:`siamese.data.images.LabelledImages`. Of the keys of ``data`` it is handed those in
:data:`siamese.config.data.HANDED_TO_SOURCE` that it takes; whatever else it takes stands below ``data.source``.
"""

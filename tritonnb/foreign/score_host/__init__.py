"""The host of an entry script: Azure ML's contract of ``init()`` and ``run()``, served over HTTP by one worker.

The contract is that of ``azureml-inference-server-http`` 1.5, which ``tests/score/test_conformance.py`` runs beside it.
"""

"""The operator: reconciles SomaMemory and SomaMemoryBackup resources into running memory services."""
